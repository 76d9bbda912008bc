"""`sgllie compare`: several methods side by side on the same images; without Ray."""
