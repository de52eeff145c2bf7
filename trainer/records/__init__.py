"""Files of a run on disk, and how they are read back."""
