"""One environment, opened."""
