"""Intervals of predicted effects."""
