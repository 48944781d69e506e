"""Launching a study: its unfinished runs, on all devices of the machine or on a cluster, to their end."""
