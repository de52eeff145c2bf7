"""What a store is made of: arrays, documents, chunks, the clip table, the lock."""
