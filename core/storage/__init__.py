"""Storage: files that are whole or absent, locks, progress, and the schema of run folders."""
