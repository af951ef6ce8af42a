"""Turn-over dropout as a library: tensors in, tensors out, no files."""
