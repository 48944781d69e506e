"""The verbs of ``ablate``, ``data``, ``weights`` and ``doctor``: options in, a call of the library, a screen out."""
