"""What decodes audio of any kind as its bytes come."""

from __future__ import annotations

from parastream.media.decoding import Recording, Source


def open_sound(source: Source, *, live: bool) -> Recording:
    """Return what decodes a source, once its first bytes have come."""
    return Recording(source)
