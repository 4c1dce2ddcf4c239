"""What images are worth: pure functions of features, and the networks that see them."""
