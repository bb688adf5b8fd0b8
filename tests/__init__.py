"""A regular package: a namespace package would lose to the folder tests that some distributions install."""
