"""Training with turn-over dropout, in one process or several."""
