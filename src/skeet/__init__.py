"""SKEET: a multi-user trading automation and analytics platform on one durable, ordered log."""
