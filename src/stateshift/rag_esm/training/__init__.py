"""Clusters in, a trained RAG-ESM out."""
