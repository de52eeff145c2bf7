"""Use of trained networks: prediction, evaluation, ensembles, export."""
