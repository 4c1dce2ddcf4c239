"""What each player minimizes: losses, penalties, augmentations."""
