"""Those who listen to transcriptions: caption rooms and saved transcripts."""
