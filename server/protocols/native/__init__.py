"""The native protocol `parastream.v1`."""
