"""The protocols that the server speaks, each an adapter between its messages and transcriptions."""
