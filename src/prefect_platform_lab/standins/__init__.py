"""Stand-ins for what cannot be had here: true to the contracts of Authentik, flyctl and Better Stack."""
