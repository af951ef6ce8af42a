"""What the commands and pages do, from files to files."""
