"""Engines: whatever turns a run folder's ``config.yaml`` into checkpoints, events and predictions."""
