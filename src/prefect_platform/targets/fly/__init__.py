"""One Fly.io machine."""
