"""Transcripts: utterances, names of speakers, subtitles, files, and sessions saved while they last."""
