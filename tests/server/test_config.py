"""Settings from flags, environment and file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from parastream.server.config import (
    PROTOCOLS,
    TOKENLESS_PROTOCOLS,
    ConfigError,
    ServerConfig,
    is_loopback,
    load_config,
)
from parastream.server.routes import ADAPTERS, NATIVE, TCP_ADAPTERS


def test_flags_win_over_environment_over_file(tmp_path: Path) -> None:
    file = tmp_path / "parastream.toml"
    file.write_text('port = 1\nidle_timeout = 5\nmax_sessions = 3\norigins = ["https://a.example"]\n')
    config = load_config(
        {"port": 3, "max_sessions": None},
        environment={"PARASTREAM_PORT": "2", "PARASTREAM_IDLE_TIMEOUT": "7.5", "PARASTREAM_UNRELATED": "x"},
        file=file,
    )
    assert (config.port, config.idle_timeout, config.max_sessions) == (3, 7.5, 3)
    assert config.origins == ("https://a.example",)
    assert config.host == ServerConfig().host


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "parastream.toml"
    file.write_text("port = 1\n", encoding="utf-8-sig")
    assert load_config({}, environment={}, file=file).port == 1


@pytest.mark.parametrize(
    ("given", "origin"),
    [
        ("https://example.org/", "https://example.org"),
        (" https://example.org ", "https://example.org"),
        ("HTTPS://Example.ORG", "https://example.org"),
        ("https://example.org:443", "https://example.org"),
        ("http://example.org:8080//", "http://example.org:8080"),
        ("http://[::1]:80", "http://[::1]"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("null", "null"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
    ],
)
def test_origins_are_taken_as_browsers_write_them(given: str, origin: str) -> None:
    assert ServerConfig(origins=(given,)).origins == (origin,)


@pytest.mark.parametrize(
    "origin",
    ["*", "", " ", "example.org", "https://*.example.org", "https://example.org/page", "https://x:port", "//x"],
)
def test_what_is_never_an_origin_is_refused(origin: str) -> None:
    with pytest.raises(ConfigError, match="allowed are origins such as https:"):
        ServerConfig(origins=(origin,))


@pytest.mark.parametrize("name", ["token", "viewer_token"])
def test_a_token_from_a_file_ends_where_the_line_does(name: str) -> None:
    settings: dict[str, Any] = {"token": "s3cret", name: " other\r\n"}
    assert getattr(ServerConfig(**settings), name) == "other"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"token": " \n"}, "token is blank"),
        ({"token": "two words"}, "token holds spaces or control characters"),
        ({"token": "two\nlines"}, "token holds spaces or control characters"),
        ({"token": "a", "viewer_token": "\t"}, "viewer_token is blank"),
        ({"token": "a", "viewer_token": " a"}, "viewer_token is the token"),
        ({"tls_key": "key.pem"}, "tls_key is of no use without tls_cert"),
    ],
)
def test_settings_that_could_never_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ServerConfig(**settings)


def test_spaces_around_a_port_do_not_matter() -> None:
    assert ServerConfig(listen=(" vosk = 2700 ",)).own_ports == {"vosk": 2700}


def test_environment_is_converted() -> None:
    config = load_config(
        environment={
            "PARASTREAM_HOST": "0.0.0.0",
            "PARASTREAM_ALLOW_ANONYMOUS": "true",
            "PARASTREAM_ORIGINS": "https://a.example,https://b.example",
        }
    )
    assert config.allow_anonymous is True
    assert config.origins == ("https://a.example", "https://b.example")


@pytest.mark.parametrize(
    ("environment", "text", "message"),
    [
        ({"PARASTREAM_PORT": "eighty"}, "", "PARASTREAM_PORT is 'eighty'"),
        ({"PARASTREAM_PORT": "70000"}, "", "0 \\(any free one\\) to 65535"),
        ({"PARASTREAM_IDLE_TIMEOUT": "nan"}, "", "idle_timeout is nan; allowed"),
        ({"PARASTREAM_IDLE_TIMEOUT": "-1"}, "", "idle_timeout is -1.0; allowed"),
        ({"PARASTREAM_MAX_SESSIONS": "0"}, "", "max_sessions is 0; allowed is 1 or more"),
        ({"PARASTREAM_BACKLOG_LOW": "10"}, "", "must be below backlog_high"),
        ({"PARASTREAM_LISTEN": "vosk=1,vosk=2"}, "", "listen is vosk=1, vosk=2; allowed is one port for each"),
        ({"PARASTREAM_VIEWER_TOKEN": "see"}, "", "set a token, too"),
        ({}, "porrt = 1", r"toml: unknown setting 'porrt'; did you mean port\? Allowed are: host, port"),
        ({}, "max_sesion = 1", "did you mean max_session or max_sessions"),
        ({}, "zzz = 1", "unknown setting 'zzz'; allowed are: host, port"),
        ({}, 'port = "x"', "port is 'x'"),
        ({"PARASTREAM_LOG_LEVEL": "loud"}, "", "LEVEL is 'loud'; allowed are: error, warning, info, debug$"),
        ({}, 'dtype = "int4"', "dtype is 'int4'; allowed are: float16, float32, bfloat16, int8$"),
        ({}, "port = ", "cannot read"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, environment: dict[str, str], text: str, message: str) -> None:
    file = tmp_path / "parastream.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(environment=environment, file=file)


def test_missing_file_and_unknown_flag() -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(environment={}, file=Path("/nowhere.toml"))
    with pytest.raises(ConfigError, match=r"unknown setting 'porrt'; did you mean port\?"):
        load_config({"porrt": 1}, environment={})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.2", "example.org"])
def test_addresses_that_others_reach_need_a_token(host: str) -> None:
    with pytest.raises(ConfigError, match="set a token"):
        ServerConfig(host=host)
    settings: list[dict[str, Any]] = [{"token": "secret"}, {"allow_anonymous": True}]
    for setting in settings:
        assert ServerConfig(host=host, **setting).host == host


def test_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.5.5.5", "::1", "localhost")))


def test_the_token_is_not_printed() -> None:
    assert "secret" not in repr(ServerConfig(token="secret"))


@pytest.mark.process
def test_importing_the_settings_loads_nothing_else_of_ours_and_no_mlx() -> None:
    program = "import sys, parastream.server.config; print(*sorted(sys.modules))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    loaded = [name for name in result.stdout.split() if name.split(".")[0] in ("parastream", "mlx")]
    assert loaded == ["parastream", "parastream.server", "parastream.server.config"]


def test_protocols_that_can_have_a_port_are_those_that_somebody_speaks() -> None:
    assert set(PROTOCOLS) == {NATIVE, *ADAPTERS, *TCP_ADAPTERS}
    assert set(TOKENLESS_PROTOCOLS) == set(TCP_ADAPTERS)
