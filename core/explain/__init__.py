"""An error, the training items behind it, and what can be said of both; needs no torch."""
