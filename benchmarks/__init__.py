"""Benchmarks: one script per question. Each prints a table and writes `results/NAME.json`."""
