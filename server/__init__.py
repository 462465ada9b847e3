"""The server: connections, protocols, rooms, pages, saved transcripts."""
