"""The config of a run, as YAML and as a value, and the two hashes that name the run."""
