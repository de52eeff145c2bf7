"""Clips as batches: which rows, in which order, and where they lie."""
