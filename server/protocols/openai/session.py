"""Read the events of OpenAI Realtime's clients, and keep track of what a session is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import UNSET
from parastream.server.protocols.openai.messages import (
    Append,
    Audio,
    BetaFormat,
    BetaOptions,
    BetaSession,
    ClientEvent,
    Pcm,
    Pcma,
    Pcmu,
    SemanticVad,
    ServerVad,
    SessionOptions,
    ShownSession,
)
from parastream.server.protocols.terms import of_prompt, plain
from parastream.server.wire.explain import Wrong, explain, head_of
from parastream.server.wire.messages import EndpointOptions, Hotword, Start
from parastream.server.wire.refusals import printable, shortened_quotes

LARGEST_APPEND = 15 << 20
"""Bytes of audio in one `append`, as OpenAI promises."""
_LONGEST_NAME = 200
"""Characters of a field that an error names, and of the name of an event that it comes with."""
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
"""The fields of `Input` by the names that the beta has for them."""
_OF_CONVERSATIONS = frozenset(
    (
        *(
            "instructions",
            "max_output_tokens",
            "model",
            "output_modalities",
            "parallel_tool_calls",
            "prompt",
            "reasoning",
        ),
        *("tool_choice", "tools", "tracing", "truncation"),
        *("client_secret", "max_response_output_tokens", "modalities", "output_audio_format", "speed", "temperature"),
        "voice",
    )
)
"""Fields of a session that say how a model answers, of the beta too: nobody answers here, so they change nothing."""
_BETA_FORMATS: dict[type[Pcm | Pcmu | Pcma], BetaFormat] = {Pcm: "pcm16", Pcmu: "g711_ulaw", Pcma: "g711_alaw"}
_CODES: dict[Wrong, str] = {
    "unknown_field": "unknown_parameter",
    "missing_field": "missing_required_parameter",
    "wrong_type": "invalid_type",
    "wrong_value": "invalid_value",
}

_decoder = msgspec.json.Decoder(ClientEvent)
_append_decoder = msgspec.json.Decoder(Append)


class ClientError(Exception):
    """A mistake of the client, which becomes an `error` event, after which the session goes on."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        self.message = printable(shortened_quotes(message))
        super().__init__(self.message)
        self.code = code
        self.param = None if param is None else printable(param)[:_LONGEST_NAME]


# --- events ------------------------------------------------------------------------------------------


def decode(text: str) -> ClientEvent:
    """Read an event.

    Raises:
        ClientError: it is not one.
    """
    large = len(text) > LARGEST_OTHER
    try:
        event: ClientEvent = _append_decoder.decode(text) if large else _decoder.decode(text)
    except msgspec.ValidationError as error:
        if not large:
            raise _mistake(error, ClientEvent, head_of(text)) from error
        mistake = _mistake(error, Append, {})
        if mistake.param != "audio":
            allowed = f"at most {LARGEST_OTHER}, unless they are of `input_audio_buffer.append`"
            mistake = ClientError("invalid_value", f"a message of {len(text)} characters; allowed: {allowed}")
        raise mistake from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise ClientError("invalid_json", f"messages are JSON objects: {error}") from error
    return event


class _Identified(msgspec.Struct):
    event_id: str


def event_id_of(text: str) -> str | None:
    """Return the `event_id` of a message that is not an event."""
    try:
        return msgspec.json.decode(text, type=_Identified).event_id[:_LONGEST_NAME]
    except (msgspec.DecodeError, RecursionError):
        return None


def _mistake(error: msgspec.ValidationError, kind: Any, value: Mapping[str, Any], *prefix: str) -> ClientError:
    """Explain why a value, which is found at `prefix`, is not one of `kind`."""
    problem = explain(error, kind, value)
    message = f"{problem.message}; allowed: {', '.join(problem.allowed)}" if problem.allowed else problem.message
    path = [*prefix, *problem.path]
    if problem.wrong in ("unknown_field", "missing_field"):
        path.append(problem.field)
    return ClientError(_CODES[problem.wrong], message, ".".join(path) or None)


# --- sessions ----------------------------------------------------------------------------------------


def start_of(session: SessionOptions, hotwords: tuple[Hotword, ...]) -> Start:
    """Return what the transcription of a session is asked for."""
    formats: dict[type, tuple[Literal["s16le", "mulaw", "alaw"], int]] = {
        Pcm: ("s16le", 24000),
        Pcmu: ("mulaw", 8000),
        Pcma: ("alaw", 8000),
    }
    encoding, rate = formats[type(session.audio.input.format)]
    turn = session.audio.input.turn_detection
    if not isinstance(turn, ServerVad):
        return Start(format=encoding, rate=rate, hotwords=hotwords)
    endpoint = EndpointOptions(
        threshold=min(max(turn.threshold, 0.01), 0.99),
        pre_roll=turn.prefix_padding_ms / 1000,
        min_silence=turn.silence_duration_ms / 1000,
    )
    return Start(format=encoding, rate=rate, hotwords=hotwords, endpoint=endpoint)


def hotwords_of(session: SessionOptions) -> tuple[Hotword, ...]:
    """Return what a session expects: its keywords, and the terms of a prompt that is a list."""
    options = session.audio.input.transcription
    if options is None:
        return ()
    return (*plain(options.keywords or ()), *of_prompt(options.prompt or ""))


def changed(session: SessionOptions, changes: Mapping[str, Any]) -> SessionOptions:
    """Return the session with the changes that `session.update` asks for.

    Raises:
        ClientError: there is no such session.
    """
    merged: dict[str, Any] = {}
    try:
        before = msgspec.to_builtins(session)
        merged = before | {name: _merged(before.get(name), change) for name, change in _relevant(changes).items()}
        return _effective(msgspec.convert(merged, SessionOptions))
    except msgspec.ValidationError as error:
        raise _mistake(error, SessionOptions, merged, "session") from error
    except RecursionError as error:
        raise ClientError("invalid_value", "the changes are nested too deeply", "session") from error


def _relevant(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return changes without what makes no difference to a transcription."""
    relevant = {name: change for name, change in changes.items() if name not in _OF_CONVERSATIONS}
    audio = relevant.get("audio")
    if isinstance(audio, dict) and "output" in audio:
        relevant["audio"] = {name: change for name, change in audio.items() if name != "output"}
    return relevant


def in_form_of_beta(changes: Mapping[str, Any]) -> bool:
    """Say whether the changes that a `session.update` asks for are in the beta's words."""
    return "audio" not in changes and any(name in changes for name in _BETA_NAMES)


def beta_changes(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an update of the beta asks for in the words of today's `session.update`.

    Raises:
        ClientError: the beta has no such field or format.
    """
    changes = _relevant(changes)
    try:
        options = msgspec.convert(changes, BetaOptions)
    except msgspec.ValidationError as error:
        raise _mistake(error, BetaOptions, changes, "session") from error
    given = {inner: value for name, inner in _BETA_NAMES.items() if (value := getattr(options, name)) is not UNSET}
    if "format" in given:
        (given["format"],) = (
            {"type": kind.__struct_config__.tag} for kind, name in _BETA_FORMATS.items() if name == given["format"]
        )
    return {"audio": {"input": given}} | ({} if options.include is UNSET else {"include": options.include})


def shown(identifier: str, session: SessionOptions) -> ShownSession:
    """Return a session as its client sees it."""
    kind: Literal["realtime.transcription_session", "realtime.session"] = (
        "realtime.session" if session.type == "realtime" else "realtime.transcription_session"
    )
    return ShownSession(id=identifier, object=kind, type=session.type, audio=session.audio, include=session.include)


def beta_shown(identifier: str, session: SessionOptions) -> BetaSession:
    """Return a session as a client of the beta sees it."""
    audio = session.audio.input
    return BetaSession(
        id=identifier,
        include=session.include,
        input_audio_format=_BETA_FORMATS[type(audio.format)],
        input_audio_transcription=audio.transcription,
        input_audio_noise_reduction=audio.noise_reduction,
        turn_detection=audio.turn_detection,
    )


def _effective(session: SessionOptions) -> SessionOptions:
    """Return the session with a turn detection that the server has."""
    turn = session.audio.input.turn_detection
    if isinstance(turn, SemanticVad):
        turn = ServerVad(silence_duration_ms=_SILENCE[turn.eagerness])
    elif isinstance(turn, ServerVad):
        turn = msgspec.structs.replace(
            turn,
            prefix_padding_ms=min(turn.prefix_padding_ms, 1000),
            silence_duration_ms=min(max(turn.silence_duration_ms, 100), 10_000),
        )
    audio = Audio(msgspec.structs.replace(session.audio.input, turn_detection=turn))
    return msgspec.structs.replace(session, audio=audio)


def _merged(value: Any, changes: Any) -> Any:
    """Merge objects of the same `type` field by field; anything else is replaced as a whole."""
    if not isinstance(value, dict) or not isinstance(changes, dict):
        return changes
    if "type" in value and changes.get("type", value["type"]) != value["type"]:
        return changes
    return {**value, **{name: _merged(value.get(name), change) for name, change in changes.items()}}
