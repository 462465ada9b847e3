"""SenseVoice's tokens: pieces of a sentencepiece model, among them tags for the language and the kind of sound.

Source: `sentencepiece_model.proto` of google/sentencepiece. Only decoding is needed, for which the pieces are enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from parastream.model.directory import ModelDirectory
from parastream.model.errors import ModelConfigError
from parastream.model.languages import SENSEVOICE
from parastream.model.protobuf import fields, parts

NO_SPEECH = "nospeech"
EMOTIONS = ("happy", "sad", "angry", "neutral", "fearful", "disgusted", "surprised")
"""What a speaker sounds like, in our words. Two more tags say that it is none of these, or not known."""
SOUNDS = ("speech", "music", "laughter", "applause", "crying", "sneeze", "breath", "cough", "singing")
"""What is to be heard, in our words. Three more tags are for noise and what is not known."""
BLANK = 0
SPACE = "▁"
"""Stands for a space in pieces."""

_EMOTION_TAGS = ("HAPPY", "SAD", "ANGRY", "NEUTRAL", "FEARFUL", "DISGUSTED", "SURPRISED", "OTHER", "EMO_UNKNOWN")
_SOUND_TAGS = (
    *("Speech", "BGM", "Laughter", "Applause", "Cry", "Sneeze", "Breath", "Cough", "Sing"),
    *("Speech_Noise", "GBG", "Event_UNK"),
)


class _Kind(IntEnum):
    """`SentencePiece.Type`."""

    NORMAL = 1
    CONTROL = 3
    UNUSED = 5


class Vocabulary:
    """The pieces of one model."""

    def __init__(self, pieces: Sequence[str], silent: Sequence[int] = ()) -> None:
        """Look up the tags among the pieces.

        Args:
            pieces: An id is an index into them.
            silent: Ids that stand for no text.

        Raises:
            ModelConfigError: A tag is missing.
        """
        self._ids = {piece: index for index, piece in enumerate(pieces)}
        self.language_ids = self._tags((*SENSEVOICE, NO_SPEECH))
        """Of `languages.SENSEVOICE`, and of the tag that nobody speaks."""
        self.emotion_ids = self._tags(_EMOTION_TAGS)
        """Of `EMOTIONS` and two more."""
        self.sound_ids = self._tags(_SOUND_TAGS)
        """Of `SOUNDS` and three more."""
        tags = {index for piece, index in self._ids.items() if piece.startswith("<|") and piece.endswith("|>")}
        without_text = tags | {BLANK} | set(silent)
        self._texts = tuple("" if index in without_text else piece for index, piece in enumerate(pieces))

    def __len__(self) -> int:
        return len(self._texts)

    def text(self, token: int) -> str:
        """Return the piece of a token, with `SPACE` for spaces; empty for tags and others that stand for no text."""
        return self._texts[token]

    def _tags(self, names: Sequence[str]) -> tuple[int, ...]:
        missing = [name for name in names if f"<|{name}|>" not in self._ids]
        if missing:
            raise ModelConfigError(f"not SenseVoice's vocabulary: it has no <|{missing[0]}|>")
        return tuple(self._ids[f"<|{name}|>"] for name in names)

    @classmethod
    def from_directory(cls, directory: ModelDirectory) -> Vocabulary:
        """Read the sentencepiece model of a directory.

        Raises:
            ModelConfigError: It is missing, damaged, or not SenseVoice's.
        """
        name = directory.sentencepiece_name
        content = directory.content(name)
        pieces, silent = list[str](), list[int]()
        try:
            for index, piece in enumerate(parts(memoryview(content), 1)):  # ModelProto.pieces
                values = dict(fields(piece))
                text, kind = values[1], values.get(3, _Kind.NORMAL)  # SentencePiece.piece and .type
                pieces.append(bytes(text if isinstance(text, memoryview) else b"").decode("utf-8"))
                if kind in (_Kind.CONTROL, _Kind.UNUSED):
                    silent.append(index)
            if len(set(pieces)) < len(pieces) or not all(pieces):
                raise ValueError("pieces are empty or listed twice")
            return cls(pieces, silent)
        except (ValueError, KeyError, ModelConfigError) as error:
            raise ModelConfigError(f"{directory.path / name}: {error}") from None
