"""Settings from flags, environment and file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from parastream.server.config import ConfigError, ServerConfig, is_loopback, load_config


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
        ({}, "prot = 1", "unknown keys: prot; allowed are: host, port"),
        ({}, 'port = "x"', "port is 'x'"),
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
    with pytest.raises(ConfigError, match="unknown setting 'prot'; allowed are: host"):
        load_config({"prot": 1}, environment={})


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
