"""What every Docker host shares."""
