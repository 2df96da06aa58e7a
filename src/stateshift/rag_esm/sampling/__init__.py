"""Masked proteins and contexts in, generated proteins out."""
