"""Cleanse: retraining without what looks harmful, and what it did."""
