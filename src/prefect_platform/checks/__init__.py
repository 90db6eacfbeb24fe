"""The proof: what is asked through the public route, and of the machine."""
