"""Parts of a store: arrays, documents, chunks, the clip table, the lock."""
