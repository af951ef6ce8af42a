"""What influence is compared with."""
