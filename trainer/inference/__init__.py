"""Predictions of trained networks: for files, for a store, averaged, and in other formats."""
