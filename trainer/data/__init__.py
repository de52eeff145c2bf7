"""Clips as batches: which rows, in which order, and in which memory."""
