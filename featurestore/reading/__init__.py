"""A finished dataset of a store for its users: arrays, tables, a summary, pictures."""
