"""`sgllie evaluate`: metrics and predictions before and after enhancement; without Ray."""
