"""Data sets: reading, transforming, checking them, and the one that the project makes itself."""
