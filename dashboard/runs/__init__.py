"""Runs: training one, its curves, how far to trust it, what it is made of."""
