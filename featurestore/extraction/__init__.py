"""From an audio file to its images: decoding, features, resizing."""
