"""For all tests: they run side by side, one process a core, so each computes on one thread, and so do its children."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # is read when torch is imported, which comes later
