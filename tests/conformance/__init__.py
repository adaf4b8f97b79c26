"""Clients must not tell the proxy from the engine behind it; what differs is listed."""
