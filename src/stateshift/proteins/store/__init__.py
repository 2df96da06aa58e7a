"""Embeddings on disk: written as they come, gone on with after a kill, read lazily."""
