"""Roles whose parts come from several rooms: each module joins an agent with a venue. Same layer as ``wiring``."""
