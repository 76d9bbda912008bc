"""Low-light enhancement for image corpora too large for one machine."""
