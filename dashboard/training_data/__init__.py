"""Training data: the items that the model learned from, one by one and as a map."""
