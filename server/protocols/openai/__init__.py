"""OpenAI Realtime transcription."""
