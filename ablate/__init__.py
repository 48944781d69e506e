"""Controlled studies of detectors with plain Vision Transformer backbones."""

import logging

logging.getLogger(__name__).addHandler(logging.NullHandler())  # silent until `ablate.train.logging.show_messages`
