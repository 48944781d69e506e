"""What lies on disk of a run: its folder, its manifest, the lock of whoever works on it."""
