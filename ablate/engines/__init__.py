"""Engines: they turn the ``config.yaml`` of a run folder into checkpoints, events and predictions."""
