"""What trained networks say: of files, of a store, together, and in other formats."""
