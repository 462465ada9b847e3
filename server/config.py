"""Settings of the server: one frozen dataclass, filled from flags, the environment and a TOML file.

A flag wins over the environment (`PARASTREAM_` and the field's name in capitals), which wins over the file.
docs/settings.md and docs/parastream.toml are made from this file by docs/make_settings.py.
"""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import math
import os
import re
import ssl
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

import msgspec

ENVIRONMENT_PREFIX = "PARASTREAM_"

PROTOCOLS = ("parastream", "deepgram", "flux", "funasr", "funasr-realtime", "openai", "sherpa", "vosk", "wyoming")
"""Names of the protocols that can have a port of their own. `parastream.server.routes` knows who speaks them."""
TOKENLESS_PROTOCOLS = ("wyoming",)
"""Those in which a client cannot present a token."""

UNIX = "unix"
"""In `proxy_protocol`: whoever connects through the Unix socket."""
_LONGEST_NAME = 63
"""Bytes in the name of a service, in multicast DNS."""
MOST_ENGINES = 64

Seconds = Annotated[float, "seconds"]
Bytes = Annotated[int, "bytes"]

LogLevel = Literal["error", "warning", "info", "debug"]
Ears = Literal["auto", "fixed"]
Refine = Literal["auto", "off"]


class ConfigError(Exception):
    """A setting is unknown, of the wrong type or out of its range."""


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Everything that can be set about a server.

    Raises:
        ConfigError: A value is out of its range, or others can reach the address and no token is set.
    """

    host: str = "127.0.0.1"
    """Address to listen on; empty: every interface."""
    port: int = 8765
    """Port to listen on; 0 picks a free one."""
    model: str = ""
    """Name or directory of the model of the streaming pass; empty: the embedded English one."""
    final_model: str = ""
    """Name or directory of the model that hears whole utterances. `auto`: the model of the streaming pass, and Whisper
    where there is room. Empty: `auto` unless `model` is set, else that model."""
    ears: Ears = "auto"
    """Where two models hear whole utterances: with `auto`, finals that would be late do without the better one; with
    `fixed` they wait, so that the same audio gives the same text however busy the server is."""
    language: str = ""
    """What is spoken, as an ISO 639 code such as `en`, `zh` or `de`, where a session does not say so itself. Unless
    `model` is set, it chooses the models, which may have to be downloaded. Empty: English, or whatever the model
    hears."""
    refine: Refine = "auto"
    """Where two models hear whole utterances: with `auto`, the better one also hears them while they last, where there
    is room, so partials get better, and stable as its hypotheses agree; with `off`, partials come from the streaming
    pass alone."""
    punctuation: str = ""
    """Name or directory of the punctuation model; empty: the embedded one; `none`: no punctuation."""
    replace: str = ""
    """File with rules for replacing words, such as `wrong => right`, a rule a line; empty: none."""
    profanity: Literal["keep", "mask", "drop"] = "keep"
    """What becomes of swear words unless a client says: `mask` shows them as `f***`, `drop` leaves them out."""
    hotwords: str = ""
    """File with terms that are listened for in all sessions, one a line, with an optional weight behind it (0.1 to 5)
    and, behind a `|`, what it sounds like; empty: none."""
    lm: str = ""
    """Language model: a file of `parastream lm train`, of ARPA or of KenLM; `none`; empty: a general English one with
    the embedded speech model, and none with others."""
    lm_share: float = 0.8
    """Share of that language model beside the general one, with which it is mixed for English; 1: it counts alone."""
    lm_weight: float = 0.3
    """How much the language model counts beside the speech model."""
    compute: Literal["", "mlx", "graphs"] = ""
    """What computes Paraformer and Whisper: `mlx`, or `graphs` for onnxruntime on the CPU; empty: graphs on a CPU, MLX
    on a GPU."""
    dtype: Literal["", "float16", "float32", "bfloat16", "int8"] = ""
    """Type in which speech models are computed: on a GPU bfloat16 (the default) or another type of floats; by graphs
    float32 or int8; by MLX on a CPU float32. Empty: what suits the model and the machine."""
    engines: int = 0
    """Engines in processes of their own, between which sessions are divided; 0: one, in the server's process."""
    devices: tuple[str, ...] = ()
    """GPUs of the engines, in turn, as CUDA numbers them: `0`, `1` and so on; empty: all have the first."""

    token: str = dataclasses.field(default="", repr=False)
    """Token that clients must present; needed when others can reach the address."""
    allow_anonymous: bool = False
    """Serve clients without a token at an address that others can reach."""
    viewer_token: str = dataclasses.field(default="", repr=False)
    """Token that lets its bearers watch caption rooms, and nothing else."""
    origins: tuple[str, ...] = ()
    """Web origins, besides the server's own, whose pages may connect, such as `https://example.org`."""
    tls_cert: str = ""
    """File with the certificate (chain) for TLS; empty: no TLS."""
    tls_key: str = ""
    """File with the certificate's private key; empty: the certificate's file holds it."""
    listen: tuple[str, ...] = ()
    """Further ports, each for one protocol at any path: `funasr=10095`, `vosk=2700`, `sherpa=6006` and so on."""
    announce: str = ""
    """Name under which the Wyoming port is announced in the local network, where Home Assistant looks for it (needs
    `pip install 'parastream[zeroconf]'`); empty: it is not announced."""
    save: str = ""
    """Directory in which to save the transcript of every session while it lasts; empty: save none."""
    instance: str = ""
    """Name of this server among several behind a balancer: with it begin the names of its sessions, whose clients come
    back with `?on=`. Letters, digits, `-` and `_`."""
    unix_socket: str = ""
    """Path of a Unix socket to listen on, instead of `host` and `port`."""
    proxies: tuple[str, ...] = ("127.0.0.0/8", "::1")
    """Addresses and networks of proxies, which are believed when they say in `X-Forwarded-For` where a request is from.
    What comes over a Unix socket is believed, too."""
    proxy_protocol: tuple[str, ...] = ()
    """Addresses and networks of proxies that begin each connection with a header of the PROXY protocol, version 1 or 2;
    `unix`: those that use the Unix socket. From these a header is demanded, and from nobody else is one accepted."""
    log_level: LogLevel = "warning"
    """Least severe messages to log: `error`, `warning`, `info` (sessions and connections) or `debug` (also what the
    engine does in each turn and with each utterance)."""

    start_timeout: Seconds = 10.0
    """Limit for the handshake, and again for the first message."""
    ping_interval: Seconds = 20.0
    """Time between pings; the server is never silent for longer."""
    ping_timeout: Seconds = 20.0
    """A connection on which no answer to a ping, nor anything else, arrives for this long counts as broken. So does one
    in a protocol without pings whose client does not take what is sent."""
    close_timeout: Seconds = 5.0
    """Limit for the closing handshake."""
    idle_timeout: Seconds = 60.0
    """A session without audio for this long is ended (its finals are sent); after ten times as long in the protocols of
    FunASR, OpenAI, sherpa-onnx and vosk, whose clients cannot show that they are still there."""
    max_session: Seconds = 4 * 3600.0
    """A session open for this long is ended (its finals are sent)."""
    max_sessions: int = 500
    """Most sessions at a time, even if the machine could serve more."""
    target_utilisation: float = 0.85
    """Share of the machine's time that sessions may take if all of them speak all the time; a session that would need
    more is refused. More than 1 relies on pauses; with a large number only `max_sessions` decides."""
    max_rooms: int = 1000
    """Most caption rooms at a time; beyond that, the room that has been empty for the longest is forgotten."""
    max_viewers: int = 2000
    """Most viewers at a time, in all rooms together."""
    room_linger: Seconds = 3600.0
    """How long a room, with its transcript, outlives its last speaker and viewer."""
    max_message: Bytes = 1 << 20
    """Largest WebSocket message."""
    max_upload: Bytes = 4 << 30
    """Largest recording: in the body of an HTTP request, or as encoded audio of a session."""
    max_message_rate: float = 1000.0
    """Most messages a second that are read from a connection; a faster client is slowed down."""
    max_unsent_bytes: Bytes = 1 << 20
    """A client that leaves so much unread, besides the message that is being sent, is cut off."""
    resume_window: Seconds = 30.0
    """How long a session outlives its broken connection."""

    backlog_high: Seconds = 10.0
    """Audio waiting for the recogniser at which the server stops reading a session's connection."""
    backlog_low: Seconds = 5.0
    """Waiting audio at which the server resumes reading."""
    max_unsent: int = 256
    """Most events (partials not counted) that may wait for a slow client or viewer; as many are kept for a resume."""
    acknowledge_interval: Seconds = 1.0
    """Time between reports of the audio accepted."""
    drain_timeout: Seconds = 30.0
    """How long a shutdown waits for the finals of open sessions."""

    @property
    def own_ports(self) -> dict[str, int]:
        """Ports by protocol, from `listen`."""
        return {name: int(port) for name, _, port in (item.partition("=") for item in self.listen)}

    @property
    def tls(self) -> ssl.SSLContext | None:
        """The TLS context; None without TLS.

        Raises:
            ConfigError: The certificate or its key cannot be used.
        """
        if not self.tls_cert:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.load_certificate(context)
        return context

    def load_certificate(self, context: ssl.SSLContext) -> None:
        """Read the certificate and its key from their files, for connections that are made from now on.

        Raises:
            ConfigError: They cannot be used.
        """
        try:
            context.load_cert_chain(self.tls_cert, self.tls_key or None)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"cannot use the certificate {self.tls_cert}: {error}") from error

    def __post_init__(self) -> None:
        self._normalise()
        self._check_numbers()
        self._check_listen()
        self._check_access()

    def _normalise(self) -> None:
        """Give values the form in which they can work: secrets from files end with a line break, for example."""
        changes: dict[str, Any] = {
            "origins": tuple(map(_origin, self.origins)),
            "listen": tuple("".join(item.split()) for item in self.listen),
            "host": self.host.strip(),
            "announce": self.announce.strip(),
        }
        for name in ("token", "viewer_token"):
            changes[name] = value = getattr(self, name).strip()
            if not value and getattr(self, name):
                raise ConfigError(f"{name} is blank; leave it out, or set one")
            if not all(letter.isprintable() and not letter.isspace() for letter in value):
                raise ConfigError(f"{name} holds spaces or control characters, which clients cannot present")
        if self.instance and not re.fullmatch(r"[A-Za-z0-9_-]{1,63}", self.instance):
            raise ConfigError(f"instance is {self.instance!r}; allowed are up to 63 letters, digits, `-` and `_`")
        for name, also in (("proxies", ()), ("proxy_protocol", (UNIX,))):
            for network in getattr(self, name):
                try:
                    _ = network in also or ipaddress.ip_network(network)
                except ValueError as error:
                    allowed = ", ".join(("addresses and networks", *also))
                    raise ConfigError(f"{name} holds {network!r}; allowed are {allowed}: {error}") from error
        for name, value in changes.items():
            object.__setattr__(self, name, value)

    def _check_numbers(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not (0 < value < math.inf):
                raise ConfigError(f"{field.name} is {value}; allowed are finite numbers above 0")
        for name in (
            "max_sessions",
            "max_rooms",
            "max_viewers",
            "max_message",
            "max_upload",
            "max_unsent",
            "max_unsent_bytes",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; allowed is 1 or more")
        if not 0 <= self.engines <= MOST_ENGINES:
            raise ConfigError(f"engines is {self.engines}; allowed are 0 to {MOST_ENGINES}")
        if self.devices and not self.engines:
            raise ConfigError("devices is of no use without engines: set how many there are")
        if self.lm_share > 1:
            raise ConfigError(f"lm_share is {self.lm_share}; allowed are numbers above 0, up to 1")
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port is {self.port}; allowed are 0 (any free one) to 65535")
        if self.backlog_low >= self.backlog_high:
            raise ConfigError(f"backlog_low ({self.backlog_low}) must be below backlog_high ({self.backlog_high})")

    def _check_listen(self) -> None:
        names = set()
        for item in self.listen:
            name, _, port = item.partition("=")
            if name not in PROTOCOLS or not port.isdecimal() or int(port) > 65535:
                raise ConfigError(f"listen is {item!r}; allowed are NAME=PORT with the names {', '.join(PROTOCOLS)}")
            names.add(name)
        if len(names) < len(self.listen):
            raise ConfigError(f"listen is {', '.join(self.listen)}; allowed is one port for each protocol")
        if self.announce and "wyoming" not in names:
            raise ConfigError("announce tells of the Wyoming port, but there is none: set listen to wyoming=10300, too")
        if len(self.announce.encode()) > _LONGEST_NAME or not self.announce.isprintable():
            raise ConfigError(f"announce is {self.announce!r}; allowed are {_LONGEST_NAME} bytes of printable text")

    def _check_access(self) -> None:
        if self.tls_key and not self.tls_cert:
            raise ConfigError("tls_key is of no use without tls_cert: set that, too, or the server speaks no TLS")
        if self.viewer_token and self.viewer_token == self.token:
            raise ConfigError("viewer_token is the token, so viewers could speak; set another one")
        if self.viewer_token and not self.token:
            raise ConfigError("viewer_token keeps nobody out while there is no token; set a token, too")
        if self.token and not self.allow_anonymous:
            for name in TOKENLESS_PROTOCOLS:
                if name in self.own_ports:
                    raise ConfigError(
                        f"{name} has no tokens, so its port would let everybody in; "
                        "where a token is set, only --allow-anonymous permits that"
                    )
        if not (self.unix_socket or is_loopback(self.host) or self.token or self.allow_anonymous):
            raise ConfigError(
                f"others can reach {self.host or 'every interface'}: set a token "
                f"(--token or {ENVIRONMENT_PREFIX}TOKEN), or allow anonymous clients (--allow-anonymous)"
            )


FIELDS = tuple(field.name for field in dataclasses.fields(ServerConfig))


def _origin(text: str) -> str:
    """Return an origin as browsers send it: `https://example.org`, without a path, and without the usual port.

    Raises:
        ConfigError: No page has such an origin.
    """
    given = text.strip()
    if given == "null":  # pages from files
        return given
    try:
        parts = urlsplit(given.rstrip("/"))
        host, port = (parts.hostname or "").encode("idna").decode(), parts.port
    except (ValueError, UnicodeError):
        host = ""
    if not host or not parts.scheme or parts.path or parts.query or parts.fragment or parts.username or "*" in host:
        raise ConfigError(
            f"origins holds {text!r}; allowed are origins such as https://example.org, and null, but no `*`"
        )
    if ":" in host:
        host = f"[{host}]"
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.scheme}://{host}" + ("" if port in (None, usual) else f":{port}")


def is_loopback(host: str) -> bool:
    """Return whether only this machine can connect to the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def load_config(
    flags: Mapping[str, Any] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> ServerConfig:
    """Merge the sources of settings: `flags` over `environment` over `file` over the defaults.

    Args:
        flags: Values by setting; None stands for a flag that was not given.
        environment: Environment variables; the process's if left out. Several values are separated by commas.
        file: A TOML file.

    Raises:
        ConfigError: The file cannot be read, a setting is unknown, or a value is not allowed.
    """
    environment = os.environ if environment is None else environment
    flags = flags or {}
    _check_names(flags, "")
    values: dict[str, Any] = {}
    if file is not None:
        values |= _read_file(file)
    for name in FIELDS:
        variable = ENVIRONMENT_PREFIX + name.upper()
        if variable in environment:
            text = environment[variable]
            several = get_origin(_TYPES[name]) is tuple
            value: Any = [item for item in text.split(",") if item] if several else text
            values[name] = _convert(name, value, variable, strict=False)
    for name, value in flags.items():
        if value is not None:
            values[name] = _convert(name, value, f"--{name.replace('_', '-')}")
    return ServerConfig(**values)


def _read_file(file: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(file.read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read {file}: {error}") from error
    _check_names(table, f"{file}: ")
    return {name: _convert(name, value, f"{file}: {name}") for name, value in table.items()}


def _check_names(names: Iterable[str], where: str) -> None:
    for name in names:
        if name not in FIELDS:
            near = " or ".join(difflib.get_close_matches(name, FIELDS))
            hint = f"did you mean {near}? Allowed" if near else "allowed"
            raise ConfigError(f"{where}unknown setting {name!r}; {hint} are: {', '.join(FIELDS)}")


_TYPES = get_type_hints(ServerConfig)


def _convert(name: str, value: Any, where: str, *, strict: bool = True) -> Any:
    try:
        return msgspec.convert(value, _TYPES[name], strict=strict)
    except msgspec.ValidationError as error:
        if get_origin(_TYPES[name]) is Literal:
            allowed = ", ".join(choice for choice in get_args(_TYPES[name]) if choice)
            raise ConfigError(f"{where} is {value!r}; allowed are: {allowed}") from error
        raise ConfigError(f"{where} is {value!r}: {error}") from error
