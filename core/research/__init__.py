"""Measurements: the paper's experiments, how far influences can be trusted, speed."""
