"""Video: frames decoded, enhanced without flicker and encoded, whole or in segments; without Ray."""
