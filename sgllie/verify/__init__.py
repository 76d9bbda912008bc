"""`sgllie verify`: whether the outputs of a run are still what it wrote, and how they become that again."""
