"""Inside a running service: observe, plan, apply."""
