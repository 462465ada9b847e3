"""Deepgram live transcription."""
