"""Methods as data: the paper's schedules, what takes them apart, and one's own."""
