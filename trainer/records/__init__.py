"""Writing and reading of a run's files."""
