"""`sgllie enhance`: images brightened, and one row of statistics for each; without Ray."""
