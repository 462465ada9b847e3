"""The WebSocket protocol of FunASR's server."""
