"""Other attribution methods, to compare with."""
