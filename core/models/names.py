"""What models are called; needs no torch."""

DEFAULT_ENCODER = "all-MiniLM-L6-v2"
