"""Misclassified items and the training items behind them, as text and HTML; needs no torch.

The dashboard draws the same parts as the HTML report.
"""
