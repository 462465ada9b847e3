"""What clients of OpenAI Realtime may say, and what a session of theirs may be.

Events and sessions are read strictly: an unknown field, type or value is an error that names it and what is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from parastream.server.wire.messages import EndpointOptions, Start

LARGEST_APPEND = 15 << 20
"""Bytes of audio in one `append`, as OpenAI promises."""
LARGEST_OTHER = 1 << 20
"""Characters in any other event. Base64 of any size is read at once, but a large session would hold up everybody."""

_SILENCE = {"low": 1200, "medium": 600, "high": 300, "auto": 600}
"""Milliseconds of silence that end a turn, for each eagerness of a semantic turn detection."""
_BETA_NAMES = {
    "input_audio_format": "format",
    "input_audio_transcription": "transcription",
    "input_audio_noise_reduction": "noise_reduction",
    "turn_detection": "turn_detection",
}
"""What the beta calls the fields of `Input`."""
_BETA_FORMATS = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}


# --- what a client may say ---------------------------------------------------------------------------


class Pcm(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="audio/pcm"):
    """16-bit samples."""

    rate: Literal[24000] = 24000


class Pcmu(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="audio/pcmu"):
    """G.711 mu-law at 8 kHz."""


class Pcma(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="audio/pcma"):
    """G.711 A-law at 8 kHz."""


class ServerVad(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="server_vad"):
    """Turns end with silence. Durations out of range become the nearest possible, as `session.updated` shows."""

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
    """Served as a `ServerVad` with a silence for each eagerness, and shown as such."""

    eagerness: Literal["low", "medium", "high", "auto"] = "auto"
    create_response: bool | None = None
    interrupt_response: bool | None = None


class TranscriptionOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """All of it is accepted and ignored: there is one model, which takes no hints."""

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
    """`format` and `turn_detection` cannot change once there was audio."""

    format: Pcm | Pcmu | Pcma = Pcm()
    transcription: TranscriptionOptions | None = None
    """None transcribes as well."""
    noise_reduction: NoiseReduction | None = None
    turn_detection: ServerVad | SemanticVad | None = ServerVad()
    """None: the client commits."""


class Audio(Struct, frozen=True, forbid_unknown_fields=True):
    """There is no output."""

    input: Input = Input()


class Session(Struct, frozen=True, forbid_unknown_fields=True):
    """What a session is; all of it may be given in `session.update`, and nothing else."""

    type: Literal["transcription"] = "transcription"
    audio: Audio = Audio()
    include: tuple[Literal["item.input_audio_transcription.logprobs"], ...] | None = None


class _Event(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="type"):
    event_id: str | None = None


class SessionUpdate(_Event, frozen=True, kw_only=True, tag="session.update"):
    """Changes the session."""

    session: dict[str, Any]


class BetaUpdate(_Event, frozen=True, kw_only=True, tag="transcription_session.update"):
    """Changes the session, as the beta did."""

    session: dict[str, Any]


class Append(_Event, frozen=True, kw_only=True, tag="input_audio_buffer.append"):
    """More audio."""

    audio: bytes


class Commit(_Event, frozen=True, tag="input_audio_buffer.commit"):
    """The audio becomes an item."""


class Clear(_Event, frozen=True, tag="input_audio_buffer.clear"):
    """The audio is forgotten."""


ClientEvent = SessionUpdate | BetaUpdate | Append | Commit | Clear
_decoder = msgspec.json.Decoder(ClientEvent)
_append_decoder = msgspec.json.Decoder(Append)


class ClientError(Exception):
    """What becomes an `error` event, after which the session goes on."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


# --- sessions ----------------------------------------------------------------------------------------


def start_of(session: Session) -> Start:
    """What a session asks of the recogniser."""
    formats: dict[type, tuple[Literal["s16le", "mulaw", "alaw"], int]] = {
        Pcm: ("s16le", 24000),
        Pcmu: ("mulaw", 8000),
        Pcma: ("alaw", 8000),
    }
    encoding, rate = formats[type(session.audio.input.format)]
    turn = session.audio.input.turn_detection
    if not isinstance(turn, ServerVad):
        return Start(format=encoding, rate=rate)
    endpoint = EndpointOptions(
        threshold=min(max(turn.threshold, 0.01), 0.99),
        pre_roll=turn.prefix_padding_ms / 1000,
        min_silence=turn.silence_duration_ms / 1000,
    )
    return Start(format=encoding, rate=rate, endpoint=endpoint)


def changed(session: Session, changes: dict[str, Any]) -> Session:
    """The session with what `session.update` says. Raises `ClientError`."""
    try:
        result: Session = msgspec.convert(_merged(msgspec.to_builtins(session), changes), Session)
    except (msgspec.ValidationError, RecursionError) as error:
        raise _problem(str(error), Session, ("session",)) from error
    return _effective(result)


def beta_changes(changes: dict[str, Any]) -> dict[str, Any]:
    """What the beta's `transcription_session.update` says, as `session.update` says it. Raises `ClientError`."""
    unknown = sorted(set(changes) - {*_BETA_NAMES, "include"})
    if unknown:
        allowed = ", ".join([*_BETA_NAMES, "include"])
        message = f"Object contains unknown field `{unknown[0]}`; allowed: {allowed}"
        raise ClientError("unknown_parameter", message, f"session.{unknown[0]}")
    input = {_BETA_NAMES[name]: value for name, value in changes.items() if name in _BETA_NAMES}
    if "format" in input:
        if not isinstance(input["format"], str) or input["format"] not in _BETA_FORMATS:
            message = f"Invalid value {input['format']!r}; allowed: {', '.join(_BETA_FORMATS)}"
            raise ClientError("invalid_value", message, "session.input_audio_format")
        input["format"] = {"type": _BETA_FORMATS[input["format"]]}
    return {"audio": {"input": input}, **({"include": changes["include"]} if "include" in changes else {})}


def beta_shown(shown: dict[str, Any]) -> dict[str, Any]:
    """A session as the beta shows it."""
    others = {name: value for name, value in shown.items() if name not in ("audio", "type")}
    input = dict(shown["audio"]["input"])
    input["format"] = next(name for name, type in _BETA_FORMATS.items() if type == input["format"]["type"])
    return {**others, **{name: input[inner] for name, inner in _BETA_NAMES.items()}}


def _effective(session: Session) -> Session:
    """The session with a turn detection that can be had."""
    turn = session.audio.input.turn_detection
    if isinstance(turn, SemanticVad):
        turn = ServerVad(silence_duration_ms=_SILENCE[turn.eagerness])
    elif isinstance(turn, ServerVad):
        turn = msgspec.structs.replace(
            turn,
            prefix_padding_ms=min(turn.prefix_padding_ms, 1000),
            silence_duration_ms=min(max(turn.silence_duration_ms, 100), 10_000),
        )
    input = msgspec.structs.replace(session.audio.input, turn_detection=turn)
    return msgspec.structs.replace(session, audio=Audio(input))


def _merged(value: Any, changes: Any) -> Any:
    """`value` with `changes`: objects of the same `type` field by field, anything else as a whole."""
    if not isinstance(value, dict) or not isinstance(changes, dict):
        return changes
    if "type" in value and changes.get("type", value["type"]) != value["type"]:
        return changes
    return {**value, **{name: _merged(value.get(name), change) for name, change in changes.items()}}


# --- errors ------------------------------------------------------------------------------------------


def decode(text: str) -> ClientEvent:
    """Read an event. Raises `ClientError`."""
    large = len(text) > LARGEST_OTHER
    try:
        event: ClientEvent = _append_decoder.decode(text) if large else _decoder.decode(text)
    except msgspec.ValidationError as error:
        if large and not str(error).endswith("`$.audio`"):
            allowed = f"at most {LARGEST_OTHER}, unless they are of `input_audio_buffer.append`"
            raise ClientError("invalid_value", f"a message of {len(text)} characters; allowed: {allowed}") from error
        raise _problem(str(error), ClientEvent, ()) from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise ClientError("invalid_json", f"messages are JSON objects: {error}") from error
    return event


class _Head(Struct):
    event_id: str


def event_id_of(text: str) -> str | None:
    """The `event_id` of something that is no event."""
    try:
        return msgspec.json.decode(text, type=_Head).event_id
    except (msgspec.DecodeError, RecursionError):
        return None


_CODES = (
    ("unknown field", "unknown_parameter"),
    ("missing required field", "missing_required_parameter"),
    ("Invalid", "invalid_value"),
    ("=", "invalid_value"),  # a bound
)
"""Error codes by what msgspec says."""


def _problem(error: str, type: Any, prefix: Sequence[str]) -> ClientError:
    """The error for a validation error of msgspec in a `type` that is found at `prefix`."""
    message, _, place = error.partition(" - at `$")
    path = re.findall(r"\w+", place)
    code = next((code for sign, code in _CODES if sign in message), "invalid_type")
    allowed = _allowed(type, path, fields=code == "unknown_parameter")
    name = re.search(r" field `(\w+)`", message)
    param = ".".join([*prefix, *path, *(name.groups() if name else ())])
    if allowed:
        message += f"; allowed: {', '.join(allowed)}"
    return ClientError(code, message, param or None)


def _allowed(type: Any, path: Sequence[str], *, fields: bool) -> list[str]:
    """The names of fields, or values, that are possible at a place in a `type`; none if there is no list of them."""
    places = _alternatives(msgspec.inspect.type_info(type))
    for index, name in enumerate(path):
        tags = [str(place.tag) for place in places if isinstance(place, msgspec.inspect.StructType) if place.tag]
        if name == "type" and index == len(path) - 1 and tags:
            return tags
        structs = [place for place in places if isinstance(place, msgspec.inspect.StructType)]
        inner = [field.type for struct in structs for field in struct.fields if field.encode_name == name]
        if structs:  # an index into a list was taken by `_alternatives`
            places = [place for one in inner for place in _alternatives(one)]
    if fields:
        structs = [place for place in places if isinstance(place, msgspec.inspect.StructType)]
        return sorted({field.encode_name for struct in structs for field in struct.fields})
    return [str(v) for place in places if isinstance(place, msgspec.inspect.LiteralType) for v in place.values]


def _alternatives(type: msgspec.inspect.Type) -> list[msgspec.inspect.Type]:
    """What a value of `type`, or each of a list, may be."""
    match type:
        case msgspec.inspect.UnionType(types=types):
            return [one for inner in types for one in _alternatives(inner)]
        case msgspec.inspect.VarTupleType(item_type=item):
            return _alternatives(item)
    return [type]
