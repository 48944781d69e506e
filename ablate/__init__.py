"""Controlled studies of detectors with plain Vision Transformer backbones."""
