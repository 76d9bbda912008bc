"""Measures of what enhancement did: to images, to video, and to what is computed from them."""
