"""From a dataset to a finished store: what is pending, block by block, and who does it."""
