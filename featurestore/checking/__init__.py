"""Verification of a store, and the repair of damage."""
