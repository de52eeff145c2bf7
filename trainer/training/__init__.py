"""A fold trained: steps, stages, epochs, and what watches them."""
