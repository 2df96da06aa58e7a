"""Homologs: clusters of related proteins, and those of any one protein."""
