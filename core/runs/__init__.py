"""A run folder: planned, written, opened."""
