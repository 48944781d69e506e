"""The files of a run: its folder, its manifest and its lock."""
