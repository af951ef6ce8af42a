"""The demo corpus, which travels with the package."""
