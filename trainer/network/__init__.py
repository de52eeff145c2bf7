"""The network, and what it begins with."""
