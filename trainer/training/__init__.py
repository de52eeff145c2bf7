"""Training of folds: steps, epochs, stages, events."""
