"""Orders at venues through ccxt, behind the port ``skeet.streams.ports.Venue``."""
