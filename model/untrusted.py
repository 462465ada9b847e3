"""Read files that anybody may have written: they must not fill the memory, take for ever or end in a traceback."""

from __future__ import annotations

import json
import reprlib
import stat
from pathlib import Path
from typing import Any

import yaml

LARGEST = 32 << 20
"""Bytes of a file that describes a model; the largest vocabularies have a few million."""
_MOST_ALIASES = 100
_DEEPEST = 50

_repr = reprlib.Repr()
_repr.maxlevel, _repr.maxstring, _repr.maxother = 2, 80, 80


class UnusableError(Exception):
    """What is wrong with a file, without its name."""


def shown(value: object) -> str:
    """Return a value from a file in a form for messages: never long, whatever it is."""
    try:
        return _repr.repr(value)
    except ValueError:  # Python prints no integers of thousands of digits
        return f"a huge {type(value).__name__}"


def read_file(path: Path) -> bytes:
    """Read a file that describes a model.

    Raises:
        UnusableError: It is too large, no regular file, or stands for a file that git-lfs keeps elsewhere.
        OSError: It cannot be read.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UnusableError("not a regular file")
    if status.st_size > LARGEST:
        raise UnusableError(f"has {status.st_size} bytes; at most {LARGEST} are allowed")
    content = path.read_bytes()
    refuse_pointer(content)
    return content


def refuse_pointer(begin: bytes) -> None:
    """Refuse what git leaves in the place of a large file.

    Raises:
        UnusableError: It is that.
    """
    if begin.startswith(b"version https://git-lfs.github.com/"):
        raise UnusableError("a git-lfs pointer, not the file itself: fetch that with `git lfs pull`")


def read_yaml(content: bytes) -> Any:
    """Parse YAML in UTF-8, with or without a byte order mark.

    Raises:
        UnusableError: It is none, nests too deeply, or refers to its own parts so often that it could grow without end.
    """
    try:
        return yaml.load(content.decode("utf-8-sig"), _Loader)  # a SafeLoader
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError, LookupError) as error:
        raise UnusableError(f"not a YAML file in UTF-8: {str(error)[:500]}") from None


def read_json(content: bytes) -> Any:
    """Parse JSON in UTF-8, with or without a byte order mark.

    Raises:
        UnusableError: It is none, or nests too deeply.
    """
    try:
        return json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UnusableError(f"not a JSON file in UTF-8: {str(error)[:500]}") from None


class _Loader(yaml.SafeLoader):
    """Makes plain values only, and not too many of them."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._aliases = 0
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Count aliases, and how deep a node lies."""
        if self.check_event(yaml.AliasEvent):
            self._aliases += 1
            if self._aliases > _MOST_ALIASES:
                raise UnusableError(f"has more than {_MOST_ALIASES} aliases")
        self._depth += 1
        if self._depth > _DEEPEST:
            raise UnusableError(f"nests more than {_DEEPEST} levels deep")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Refuse merge keys, which copy what they name."""
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise UnusableError("has a merge key (<<)")
