"""The verbs of ``analyze``: parse the command line, call the library, show the result."""
