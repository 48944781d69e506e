#!/usr/bin/env python
"""The front door in a clone: ``cli.py analyze ...``, ``cli.py ablate ...``; after installation it is ``detablate``."""

from detablate import main

if __name__ == "__main__":
    main()
