"""What a run is: its config, as YAML and as a value, and the two hashes that name it."""
