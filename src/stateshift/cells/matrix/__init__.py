"""Expression from files to training: read in blocks, brought to one scale, in memory or on disk."""
