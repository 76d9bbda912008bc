"""`sgllie weights`: weights files shown and imported."""
