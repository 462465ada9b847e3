"""docs/protocol.md says what is so."""

from __future__ import annotations

import itertools
import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import msgspec
from parastream.server.config import PROTOCOLS, ServerConfig
from parastream.server.routes import WEBSOCKET_PATHS
from parastream.server.wire.messages import (
    CLOSE_CODES,
    Event,
    Ready,
    RoomHistory,
    RoomMessage,
    ServerMessage,
    Start,
    decode_server_message,
    encode,
)
from parastream.streaming import EndpointConfig

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENT = (DOCS / "protocol.md").read_text("utf-8")
OTHERS = (DOCS / "protocols.md").read_text("utf-8")


def rows(heading: str, document: str = DOCUMENT) -> dict[str, list[str]]:
    """The rows of the first table after a line, by their first cell."""
    lines = document[document.index(heading) :].splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("|--"))
    table = itertools.takewhile(lambda line: line.startswith("|"), lines[first + 1 :])
    cells = [line.strip("| ").split(" | ") for line in table]
    return {row[0]: row[1:] for row in cells}


def test_close_codes() -> None:
    documented = {name.strip("`"): row[0] for name, row in rows("## Errors").items()}
    assert documented.pop("incomplete_sample") == "–"
    assert {name: int(code) for name, code in documented.items()} == CLOSE_CODES


def test_fields_of_start_and_their_defaults() -> None:
    documented = {name.strip("`"): row[0].strip("`") for name, row in rows("### `start`").items()}
    defaults = msgspec.json.decode(encode(Start()))
    assert {name: msgspec.json.decode(text) for name, text in documented.items()} == {
        name: defaults[name] for name in Start.__struct_fields__
    }
    endpoint = {name.strip("`"): float(row[0]) for name, row in rows("`endpoint` (seconds").items()}
    config = EndpointConfig()
    assert endpoint == {name: getattr(config, name) for name in EndpointConfig.__dataclass_fields__}


def test_fields_of_ready() -> None:
    documented = re.findall(r"`(\w+)`", " ".join(rows("### `ready`")))
    assert documented == list(Ready.__struct_fields__)


def test_events() -> None:
    documented = {name.strip("`"): re.findall(r"`(\w+)`", row[0]) for name, row in rows("### Events").items()}
    actual = {
        str(kind.__struct_config__.tag): [name for name in kind.__struct_fields__ if name != "seq"]
        for kind in get_args(Event)
    }
    assert documented == actual


def test_messages_of_rooms() -> None:
    documented = {name.strip("`"): re.findall(r"`(\w+)`", row[0]) for name, row in rows("Viewers send nothing").items()}
    actual = {str(kind.__struct_config__.tag): list(kind.__struct_fields__) for kind in get_args(RoomMessage)}
    assert documented == actual
    history = re.findall(r"`(\w+)`", " ".join(rows("answers with JSON")))
    assert history == list(RoomHistory.__struct_fields__)


def test_protocols_of_others_are_where_they_are_said_to_be() -> None:
    documented = {name.strip("`"): row for name, row in rows("# Protocols", OTHERS).items()}
    assert set(documented) == set(PROTOCOLS)
    for path, protocol in WEBSOCKET_PATHS.items():
        assert documented[protocol][0] == f"`{path}`"
    for protocol, (_, port) in documented.items():
        if port != "–":
            config = ServerConfig(listen=(port.strip("`").removeprefix("--listen "),))
            assert list(config.own_ports) == [protocol]


def test_clients_of_each_run_have_the_versions_that_are_installed() -> None:
    locked = json.loads((DOCS.parent / "tests" / "sdks" / "package-lock.json").read_text())["packages"]
    checked = 0
    for name, (tested, _, runs) in rows("These clients were run", OTHERS).items():
        found = re.fullmatch(r"`(.+)` \((PyPI|npm)\)", name)
        if found is not None and runs == "each run":
            package, registry = found.groups()
            installed = version(package) if registry == "PyPI" else locked[f"node_modules/{package}"]["version"]
            assert f"{installed}.".startswith(f"{tested}."), name
            checked += 1
    assert checked == 7


def test_every_message_has_a_place() -> None:
    for kind in get_args(ServerMessage):
        assert f"`{kind.__struct_config__.tag}`" in DOCUMENT


def test_the_examples_are_messages() -> None:
    examples = re.findall(r"^\{.*\}$", DOCUMENT, re.MULTILINE)
    assert len(examples) == 2
    for example in examples:
        decode_server_message(example)
