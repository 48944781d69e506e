"""Training of any model: the loop, optimizer, processes, checkpoints, memory, logging."""
