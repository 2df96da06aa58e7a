"""Masked inputs and their contexts, made for sampling."""
