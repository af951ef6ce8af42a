"""Baselines: other attribution methods, to compare turn-over dropout with."""
