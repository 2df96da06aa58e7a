"""Runs and checkpoints of arc-state, read without unpickling."""
