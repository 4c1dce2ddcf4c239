"""This process among the others: launch, reductions, stopping, failure detection."""
