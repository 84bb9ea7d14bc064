"""The training loop, its checkpoints and logs, and the cache of encoded frames."""
