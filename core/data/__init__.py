"""Data sets: what an item is, and how it is read."""
