"""Recorded and compressed audio as samples: containers, decoding, mixing."""
