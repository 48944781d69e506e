"""Matching, average precision, the error types and everything else that is measured of one run."""
