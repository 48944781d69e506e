"""Pre-trained weights."""
