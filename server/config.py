"""Settings of the server: one frozen dataclass, filled from flags, environment and one TOML file.

A flag wins over the environment (`PARASTREAM_` and the field's name in capitals), which wins over the file.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import math
import os
import ssl
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import msgspec
from parastream.model.errors import ParastreamError
from parastream.server.routes import PROTOCOLS, TCP_ADAPTERS

ENVIRONMENT_PREFIX = "PARASTREAM_"


class ConfigError(ParastreamError):
    """A setting is unknown, of the wrong type or out of its range."""


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Everything that can be set about a server. Times in seconds.

    Raises:
        ConfigError: a value is out of its range, or the address can be reached by others and no token is set.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    """0 picks a free port."""
    model: str = "asr-small-en"
    """Name or directory of the model of the streaming pass."""
    final_model: str = ""
    """Name or directory of the model of the second pass; empty: the same model."""

    token: str = dataclasses.field(default="", repr=False)
    """What clients must present; needed when others can reach the address."""
    allow_anonymous: bool = False
    """Serve an address that others can reach without a token."""
    viewer_token: str = dataclasses.field(default="", repr=False)
    """Lets its bearers watch caption rooms, and nothing else."""
    origins: tuple[str, ...] = ()
    """Web origins whose pages may connect besides the server's own, such as `https://example.org`."""
    tls_cert: str = ""
    """File with the certificate (chain) with which the server speaks TLS; empty: it does not."""
    tls_key: str = ""
    """File with the certificate's private key; empty: it is in the same file."""
    listen: tuple[str, ...] = ()
    """Further ports, each for one protocol whatever the path: `funasr=10095`, `vosk=2700`, `sherpa=6006` and so on."""
    save: str = ""
    """Directory in which the transcript of every session is saved while it lasts; empty: none is."""

    start_timeout: float = 10.0
    """For the handshake, and again for the first message."""
    ping_interval: float = 20.0
    """Between pings; the server is never silent for longer."""
    ping_timeout: float = 20.0
    """A connection that neither answers a ping nor sends anything else in this time counts as broken, as does one of a
    protocol without pings that does not take what is sent."""
    close_timeout: float = 5.0
    """For the closing handshake."""
    idle_timeout: float = 60.0
    """A session without audio for this long is ended (its finals are sent)."""
    max_session: float = 4 * 3600.0
    """A session open for this long is ended (its finals are sent)."""
    max_sessions: int = 500
    """Sessions at a time, whatever the machine can do."""
    target_utilisation: float = 0.85
    """Share of the machine's time that sessions may take if all of them speak all the time; a session that would need
    more is refused. More than 1 relies on pauses; a large number leaves `max_sessions` alone to decide."""
    max_rooms: int = 1000
    """Caption rooms at a time; beyond that the one that has been empty for the longest is forgotten."""
    max_viewers: int = 2000
    """Viewers at a time, in all rooms together."""
    room_linger: float = 3600.0
    """How long a room, with its transcript, outlives its last speaker and viewer."""
    max_message: int = 1 << 20
    """Bytes in one WebSocket message."""
    resume_window: float = 30.0
    """How long a session outlives its broken connection."""

    backlog_high: float = 10.0
    """Seconds of audio waiting for the recogniser at which a session's connection is not read any more."""
    backlog_low: float = 5.0
    """Seconds of waiting audio at which it reads on."""
    max_unsent: int = 256
    """Events (partials not counted) that may wait for a slow client or viewer; as many are kept for a resume."""
    acknowledge_interval: float = 1.0
    """Between reports of the audio accepted."""
    drain_timeout: float = 30.0
    """How long a shutdown waits for the finals of open sessions."""

    @property
    def own_ports(self) -> dict[str, int]:
        """Ports by protocol, from `listen`."""
        return {name: int(port) for name, _, port in (item.partition("=") for item in self.listen)}

    @property
    def tls(self) -> ssl.SSLContext | None:
        """What TLS needs, if it is spoken.

        Raises:
            ConfigError: the files cannot be used.
        """
        if not self.tls_cert:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(self.tls_cert, self.tls_key or None)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"cannot use the certificate {self.tls_cert}: {error}") from error
        return context

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not (0 < value < math.inf):
                raise ConfigError(f"{field.name} is {value}; allowed are finite numbers above 0")
        for name in ("max_sessions", "max_rooms", "max_viewers", "max_message", "max_unsent"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; allowed is 1 or more")
        for item in self.listen:
            name, _, port = item.partition("=")
            if name not in PROTOCOLS or not port.isdecimal() or int(port) > 65535:
                raise ConfigError(f"listen is {item!r}; allowed are NAME=PORT with the names {', '.join(PROTOCOLS)}")
        names = [item.partition("=")[0] for item in self.listen]
        if len(set(names)) < len(names):
            raise ConfigError(f"listen is {', '.join(self.listen)}; allowed is one port for each protocol")
        if self.viewer_token and not self.token:
            raise ConfigError("viewer_token keeps nobody out while there is no token; set a token, too")
        if self.token and not self.allow_anonymous and not TCP_ADAPTERS.keys().isdisjoint(self.own_ports):
            raise ConfigError(
                f"{', '.join(TCP_ADAPTERS)} knows no tokens: its port would let in everybody, which only "
                "--allow-anonymous allows where a token is set"
            )
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port is {self.port}; allowed are 0 (any free one) to 65535")
        if self.backlog_low >= self.backlog_high:
            raise ConfigError(f"backlog_low ({self.backlog_low}) must be below backlog_high ({self.backlog_high})")
        if not (is_loopback(self.host) or self.token or self.allow_anonymous):
            raise ConfigError(
                f"{self.host or 'every interface'} can be reached by others: set a token "
                f"(--token or {ENVIRONMENT_PREFIX}TOKEN), or allow anonymous clients (--allow-anonymous)"
            )


FIELDS = tuple(field.name for field in dataclasses.fields(ServerConfig))


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to the address."""
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
    """Bring the sources together: `flags` (None stands for not given), then `environment`
    (default: the process's), then the TOML `file`, then the defaults.

    Raises:
        ConfigError: the file cannot be read, or a key or value is not allowed.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    if file is not None:
        values |= _read_file(file)
    for name in FIELDS:
        text = environment.get(ENVIRONMENT_PREFIX + name.upper())
        if text is not None:
            several = get_origin(_TYPES[name]) is tuple
            value: Any = [item for item in text.split(",") if item] if several else text
            values[name] = _convert(name, value, ENVIRONMENT_PREFIX + name.upper(), strict=False)
    for name, value in (flags or {}).items():
        if name not in FIELDS:
            raise ConfigError(f"unknown setting {name!r}; allowed are: {', '.join(FIELDS)}")
        if value is not None:
            values[name] = _convert(name, value, f"--{name.replace('_', '-')}")
    return ServerConfig(**values)


def _read_file(file: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read {file}: {error}") from error
    unknown = sorted(set(table) - set(FIELDS))
    if unknown:
        raise ConfigError(f"{file}: unknown keys: {', '.join(unknown)}; allowed are: {', '.join(FIELDS)}")
    return {name: _convert(name, value, f"{file}: {name}") for name, value in table.items()}


_TYPES = get_type_hints(ServerConfig)


def _convert(name: str, value: Any, where: str, *, strict: bool = True) -> Any:
    try:
        return msgspec.convert(value, _TYPES[name], strict=strict)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where} is {value!r}: {error}") from error
