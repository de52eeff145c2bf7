"""From a dataset to a complete store: planning, extracting and committing blocks, and executors."""
