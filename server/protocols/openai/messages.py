"""The events of OpenAI Realtime, as its API reference describes them, with all that they contain.

What a client says is read strictly: an unknown field, type or value is an error that names it and what is allowed.
"""

from __future__ import annotations

import secrets
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

LOGPROBS: Literal["item.input_audio_transcription.logprobs"] = "item.input_audio_transcription.logprobs"
"""What `include` may ask for."""


# --- what a session is -------------------------------------------------------------------------------


class Pcm(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="audio/pcm"):
    """16-bit samples."""

    rate: Literal[24000] = 24000


class Pcmu(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="audio/pcmu"):
    """G.711 mu-law at 8 kHz."""


class Pcma(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="audio/pcma"):
    """G.711 A-law at 8 kHz."""


class ServerVad(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="server_vad"):
    """Turns end with silence. Durations out of range are clamped, as `session.updated` shows."""

    threshold: Annotated[float, Meta(ge=0, le=1)] = 0.5
    prefix_padding_ms: Annotated[int, Meta(ge=0)] = 300
    """At most 1000."""
    silence_duration_ms: Annotated[int, Meta(ge=0)] = 500
    """100 to 10000."""
    create_response: bool | None = None
    """Ignored, as the next two: nothing responds here."""
    interrupt_response: bool | None = None
    idle_timeout_ms: int | None = None


class SemanticVad(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="semantic_vad"):
    """Served, and shown, as a `ServerVad` whose silence depends on the eagerness."""

    eagerness: Literal["low", "medium", "high", "auto"] = "auto"
    create_response: bool | None = None
    interrupt_response: bool | None = None


class TranscriptionOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """Accepted; all but `language`, `keywords` and a `prompt` that is a list of terms are ignored."""

    model: str | None = None
    language: str | None = None
    prompt: str | None = None
    languages: tuple[str, ...] | None = None
    keywords: tuple[str, ...] | None = None
    delay: str | None = None


class NoiseReduction(Struct, frozen=True, forbid_unknown_fields=True):
    """Accepted and ignored."""

    type: Literal["near_field", "far_field"] | None = None
    strength: float | None = None


class Input(Struct, frozen=True, forbid_unknown_fields=True):
    """`format` and `turn_detection` cannot change after the first audio."""

    format: Pcm | Pcmu | Pcma = Pcm()
    transcription: TranscriptionOptions | None = None
    """None transcribes as well."""
    noise_reduction: NoiseReduction | None = None
    turn_detection: ServerVad | SemanticVad | None = ServerVad()
    """None: the client commits."""


class Audio(Struct, frozen=True, forbid_unknown_fields=True):
    """The server has no output."""

    input: Input = Input()


class SessionOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """What `session.update` may change."""

    type: Literal["transcription", "realtime"] = "transcription"
    """`realtime`, a conversation, is served as a transcription: nobody answers."""
    audio: Audio = Audio()
    include: tuple[Literal["item.input_audio_transcription.logprobs"], ...] | None = None


BetaFormat = Literal["pcm16", "g711_ulaw", "g711_alaw"]


class BetaOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """What the beta's update may say; `Any`: checked as the field of `Input` that it stands for."""

    input_audio_format: BetaFormat | UnsetType = UNSET
    input_audio_transcription: Any = UNSET
    input_audio_noise_reduction: Any = UNSET
    turn_detection: Any = UNSET
    include: Any = UNSET


# --- client to server --------------------------------------------------------------------------------


class _ClientEvent(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="type"):
    event_id: str | None = None


class SessionUpdate(_ClientEvent, frozen=True, kw_only=True, tag="session.update"):
    """Change the session."""

    session: dict[str, Any]


class BetaUpdate(_ClientEvent, frozen=True, kw_only=True, tag="transcription_session.update"):
    """Change the session, in the beta's words."""

    session: dict[str, Any]


class Append(_ClientEvent, frozen=True, kw_only=True, tag="input_audio_buffer.append"):
    """More audio."""

    audio: bytes


class Commit(_ClientEvent, frozen=True, tag="input_audio_buffer.commit"):
    """Make an item of the audio."""


class Clear(_ClientEvent, frozen=True, tag="input_audio_buffer.clear"):
    """Forget the audio."""


class Retrieve(_ClientEvent, frozen=True, kw_only=True, tag="conversation.item.retrieve"):
    """Show an item."""

    item_id: str


ClientEvent = SessionUpdate | BetaUpdate | Append | Commit | Clear | Retrieve


# --- server to client --------------------------------------------------------------------------------


class ShownSession(Struct, frozen=True, kw_only=True):
    """A session with all that is in effect."""

    id: str
    object: Literal["realtime.transcription_session", "realtime.session"] = "realtime.transcription_session"
    type: Literal["transcription", "realtime"] = "transcription"
    audio: Audio
    include: tuple[str, ...] | None


class BetaSession(Struct, frozen=True, kw_only=True):
    """The same, as the beta shows it."""

    id: str
    object: Literal["realtime.transcription_session"] = "realtime.transcription_session"
    include: tuple[str, ...] | None
    input_audio_format: BetaFormat
    input_audio_transcription: TranscriptionOptions | None
    input_audio_noise_reduction: NoiseReduction | None
    turn_detection: ServerVad | SemanticVad | None


class InputAudio(Struct, frozen=True, tag_field="type", tag="input_audio"):
    """Content of an item: audio, whose text comes by itself, or when the item is asked for."""

    transcript: str | None = None


class Item(Struct, frozen=True, kw_only=True):
    """A part of the conversation that was said and committed."""

    id: str
    object: Literal["realtime.item"] = "realtime.item"
    type: Literal["message"] = "message"
    status: Literal["completed"] = "completed"
    role: Literal["user"] = "user"
    content: tuple[InputAudio] = (InputAudio(),)


class LogProb(Struct, frozen=True):
    """A word, with the space before it."""

    token: str
    logprob: float
    bytes: tuple[int, ...]


class Usage(Struct, frozen=True, tag_field="type", tag="duration"):
    """What an item is billed by."""

    seconds: float
    """Of its audio."""


class ItemError(Struct, frozen=True):
    """Why an item has no text."""

    type: Literal["server_error", "invalid_request_error"]
    code: str
    message: str
    param: str | None = None
    """The field that is wrong: `session.audio.input.format`."""


class EventError(ItemError, frozen=True):
    """What went wrong."""

    event_id: str | None = None
    """Of the client's event, if it is the cause."""


def _event_id() -> str:
    return f"event_{secrets.token_hex(12)}"


class _ServerEvent(Struct, frozen=True, kw_only=True, tag_field="type"):
    event_id: str = field(default_factory=_event_id)


class SessionCreated(_ServerEvent, frozen=True, kw_only=True, tag="session.created"):
    """The first event."""

    session: ShownSession | BetaSession


class BetaCreated(_ServerEvent, frozen=True, kw_only=True, tag="transcription_session.created"):
    """The first event of a transcription in the beta."""

    session: BetaSession


class SessionUpdated(_ServerEvent, frozen=True, kw_only=True, tag="session.updated"):
    """Answer to `session.update`."""

    session: ShownSession | BetaSession


class BetaUpdated(_ServerEvent, frozen=True, kw_only=True, tag="transcription_session.updated"):
    """Answer to `transcription_session.update`."""

    session: BetaSession


class SpeechStarted(_ServerEvent, frozen=True, kw_only=True, tag="input_audio_buffer.speech_started"):
    """An utterance begins."""

    audio_start_ms: int
    item_id: str


class SpeechStopped(_ServerEvent, frozen=True, kw_only=True, tag="input_audio_buffer.speech_stopped"):
    """An utterance has ended."""

    audio_end_ms: int
    item_id: str


class Committed(_ServerEvent, frozen=True, kw_only=True, tag="input_audio_buffer.committed"):
    """Audio became an item."""

    item_id: str
    previous_item_id: str | None


class Cleared(_ServerEvent, frozen=True, kw_only=True, tag="input_audio_buffer.cleared"):
    """Answer to `input_audio_buffer.clear`."""


class _ItemEvent(_ServerEvent, frozen=True, kw_only=True):
    previous_item_id: str | None
    item: Item


class ItemAdded(_ItemEvent, frozen=True, kw_only=True, tag="conversation.item.added"):
    """There is an item."""


class ItemDone(_ItemEvent, frozen=True, kw_only=True, tag="conversation.item.done"):
    """Its audio is complete."""


class ItemCreated(_ItemEvent, frozen=True, kw_only=True, tag="conversation.item.created"):
    """Both, in the beta."""


class ItemRetrieved(_ServerEvent, frozen=True, kw_only=True, tag="conversation.item.retrieved"):
    """Answer to `conversation.item.retrieve`."""

    item: Item


class Delta(_ServerEvent, frozen=True, kw_only=True, tag="conversation.item.input_audio_transcription.delta"):
    """More of an item's text."""

    item_id: str
    content_index: int = 0
    delta: str


class Completed(_ServerEvent, frozen=True, kw_only=True, tag="conversation.item.input_audio_transcription.completed"):
    """An item's text is complete."""

    item_id: str
    content_index: int = 0
    transcript: str
    usage: Usage
    logprobs: tuple[LogProb, ...] | UnsetType = UNSET


class Failed(_ServerEvent, frozen=True, kw_only=True, tag="conversation.item.input_audio_transcription.failed"):
    """An item has no text."""

    item_id: str
    content_index: int = 0
    error: ItemError


class ErrorEvent(_ServerEvent, frozen=True, kw_only=True, tag="error"):
    """Something went wrong; the session goes on, unless the connection is closed next."""

    error: EventError


ServerEvent = (
    SessionCreated
    | BetaCreated
    | SessionUpdated
    | BetaUpdated
    | SpeechStarted
    | SpeechStopped
    | Committed
    | Cleared
    | ItemAdded
    | ItemDone
    | ItemCreated
    | ItemRetrieved
    | Delta
    | Completed
    | Failed
    | ErrorEvent
)
