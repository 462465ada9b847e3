"""Which protocol a connection speaks: by its path, or by the port of its own that a protocol was given."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import parse_qs, unquote_to_bytes

from parastream.server.protocols.base import Adapter, Request
from parastream.server.protocols.deepgram.adapter import Deepgram
from parastream.server.protocols.deepgram.flux import Flux
from parastream.server.protocols.deepgram.upload import DeepgramUpload
from parastream.server.protocols.funasr.adapter import FunASR
from parastream.server.protocols.funasr_realtime import FunASRRealtime
from parastream.server.protocols.openai.adapter import OpenAIRealtime
from parastream.server.protocols.openai.http import MODELS_PATH, ClientSecrets
from parastream.server.protocols.openai.upload import OpenAIUpload
from parastream.server.protocols.sherpa import Sherpa
from parastream.server.protocols.upload import Posted
from parastream.server.protocols.vosk import Vosk
from parastream.server.protocols.wyoming import Wyoming
from parastream.server.wire.messages import PROTOCOL, ROOM_PROTOCOL, ROOMS_PATH, STREAM_PATH
from parastream.server.wire.room_names import room_name
from websockets.datastructures import Headers

NATIVE = "parastream"
ROOM = "room"
FUNASR = "funasr"

ADAPTERS: Mapping[str, type[Adapter]] = MappingProxyType(
    {
        "deepgram": Deepgram,
        "flux": Flux,
        FUNASR: FunASR,
        "funasr-realtime": FunASRRealtime,
        "openai": OpenAIRealtime,
        "sherpa": Sherpa,
        "vosk": Vosk,
    }
)
"""Protocols of other servers, by name."""
TCP_ADAPTERS: Mapping[str, type[Adapter]] = MappingProxyType({"wyoming": Wyoming})
"""Those that are no WebSockets, and so have no path."""
POSTED: Mapping[str, type[Posted]] = MappingProxyType(
    {"transcriptions": OpenAIUpload, "prerecorded": DeepgramUpload, "client secrets": ClientSecrets}
)
"""Those that are requests with a body, of which each gets one response."""
POST_PATHS: Mapping[str, str] = MappingProxyType(
    {
        "/v1/audio/transcriptions": "transcriptions",
        "/v1/listen": "prerecorded",
        "/v1/realtime/client_secrets": "client secrets",
    }
)
"""Their names by path."""
WEBSOCKET_PATHS: Mapping[str, str] = MappingProxyType(
    {
        "/": FUNASR,
        STREAM_PATH: NATIVE,
        "/funasr-realtime": "funasr-realtime",
        "/v1/listen": "deepgram",
        "/v2/listen": "flux",
        "/v1/realtime": "openai",
        "/sherpa": "sherpa",
        "/vosk": "vosk",
    }
)
"""Names of protocols by the path they are found at."""
HTTP_PATHS = ("/healthz", "/readyz", "/metrics", "/v1/info", MODELS_PATH)


def protocol_at(path: str) -> str | None:
    """Return the protocol of a WebSocket at a path; None if there is none."""
    return ROOM if room_at(path) is not None else WEBSOCKET_PATHS.get(path)


def meant_by(path: str) -> str | None:
    """Guess which path was meant by one that does not exist; None if that cannot be guessed."""
    known = [each for each in (*WEBSOCKET_PATHS, *HTTP_PATHS, *POST_PATHS) if each != "/"]
    lower = path.lower()
    for each in known:
        if lower.endswith(each) or lower.startswith(f"{each}/") or (lower.count("/") == 1 and each.endswith(lower)):
            return each
    return next(iter(difflib.get_close_matches(lower, known, 1, 0.7)), None)


def room_at(path: str, prefix: str = ROOMS_PATH, suffix: str = "") -> str | None:
    """Return the name of the room that a path is about, if it is about one.

    Names of any script are found percent-encoded, as browsers send them, and as plain UTF-8.
    """
    if not (path.startswith(prefix) and path.endswith(suffix) and len(path) > len(prefix) + len(suffix)):
        return None
    encoded = path[len(prefix) : len(path) - len(suffix)]
    try:
        return room_name(unquote_to_bytes(encoded.encode("utf-8", "surrogateescape")).decode("utf-8"))
    except ValueError:
        return None


def subprotocols(protocol: str) -> tuple[str, ...]:
    """Return the subprotocols that are selected when a client offers them."""
    match protocol:
        case "parastream":
            return (PROTOCOL,)
        case "room":
            return (ROOM_PROTOCOL,)
    return ADAPTERS[protocol].subprotocols


def parse(target: str, headers: Headers | None = None) -> Request:
    """Parse the target of a request line into path and query; slashes that are doubled or at the end do not count."""
    path, _, query = target.partition("?")
    if not path.startswith("/"):  # an absolute URL, as for a proxy
        path = "/" + path.partition("://")[2].partition("/")[2]
    path = re.sub("//+", "/", path)
    path = path.rstrip("/") or "/"
    values = parse_qs(query, keep_blank_values=True)
    named = {name.lower(): ", ".join(headers.get_all(name)) for name in headers} if headers is not None else {}
    return Request(path, {name: tuple(given) for name, given in values.items()}, named)
