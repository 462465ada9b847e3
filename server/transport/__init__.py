"""Connections: bytes in and out, limits, and the time."""
