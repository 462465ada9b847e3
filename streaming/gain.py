"""An automatic gain for voice activity detection, so that quiet speech is found like any other.

Silero's network depends on the level: it overlooks words that are far below what it was trained on, which the
recogniser's models would understand. The gain raises what the network hears, and nothing else:

    gain = min(target / loudness, loudest noise / noise floor), at least 1

The loudness is that of whoever speaks. It rises with the first louder frame, so a loud word is never amplified. It
falls only while something sounds without a break: after some frames the present stretch of sound counts by its own
loudest frame, so a second speaker far below the first is found within the pre-roll of an utterance. In silence the gain
stands still: after usual speech it is exactly 1, and clicks are not raised. When a session begins, nothing is known of
the speaker, and the gain is as high as the noise allows.

The noise floor is the lowest level so far, which slowly rises (minimum statistics): it bounds how far noise is raised,
and tells sound from silence. A steady sound becomes the floor itself. Digital silence says nothing about the room, so
what begins after it is not raised as if the room were quiet.
"""

from __future__ import annotations

from dataclasses import dataclass

from parastream.streaming.audio import SAMPLE_RATE
from parastream.streaming.silero import FRAME

_FRAME_SECONDS = FRAME / SAMPLE_RATE


def _ratio(decibels: float) -> float:
    return float(10 ** (decibels / 20))


_TARGET = _ratio(-32)  # level of a frame up to which speech is raised: soft speech, which the network finds reliably
_MOST = _ratio(30)  # the gain's maximum
_NOISE = _ratio(-60)  # level up to which noise is raised, which bounds how far speech is raised above a given noise
_LEAST = _NOISE / _MOST  # a floor no lower than this keeps the gain to its maximum
_FLOOR_RISE = _ratio(3 * _FRAME_SECONDS)  # 3 dB a second: the next pause between words comes before it has risen far
_SOUND = _ratio(6)  # what is that far above the noise floor is sound
_GAP = round(0.32 / _FRAME_SECONDS)  # frames of silence that separate two stretches of sound
_LASTING = 4  # frames (0.13 s) of sound in a row that make more than clicks
_FORGET = _ratio(-10 * _FRAME_SECONDS)  # 10 dB a second, for speakers who leave no pause between them


@dataclass(slots=True)
class Gain:
    """The gain of one session. It depends on the frames in their order, not on how they are grouped.

    Levels are the RMS of a frame. Full scale is 1.
    """

    loudness: float = _LEAST
    """Level of whoever speaks."""
    floor: float = _NOISE
    """Level of the noise."""
    stretch: float = 0.0
    """Level of the present stretch of sound, or of the one before."""
    run: int = 0
    """Frames of sound in a row, up to now."""
    silent: int = 0
    """Frames of silence in a row."""

    def push(self, level: float) -> float:
        """Take the level of the next frame, and return the factor (1 to 31.6) for its samples."""
        if level == 0:  # from a gate or a mute switch
            self.silent, self.run = self.silent + 1, 0
            return self._factor()
        level = min(max(level, _LEAST), 1.0)
        self.floor = min(level, self.floor * _FLOOR_RISE)
        if level > _SOUND * self.floor:
            self.stretch = max(level, 0.0 if self.silent >= _GAP else self.stretch * _FORGET)
            self.silent, self.run = 0, self.run + 1
            if self.run >= _LASTING:
                self.loudness = self.stretch
        else:
            self.silent, self.run = self.silent + 1, 0
        self.loudness = max(level, self.loudness)
        return self._factor()

    def _factor(self) -> float:
        return max(1.0, min(_TARGET / self.loudness, _NOISE / self.floor))
