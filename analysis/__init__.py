"""Error analysis of object detectors: where the average precision went, exactly and fast."""
