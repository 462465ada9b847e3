"""The modules of the pages under Node, without a browser."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from parastream.server.http.pages import WEB

_CALL = """\
import { readFileSync } from "node:fs";
const { module, name, calls } = JSON.parse(readFileSync(0, "utf-8"));
const functions = await import(`./${module}`);
process.stdout.write(JSON.stringify(calls.map((given) => functions[name](...given))));
"""


def node() -> str:
    """The program; the test is skipped where there is none."""
    found = shutil.which("node")
    if found is None:
        reason = "there is no Node (Debian: apt-get install nodejs)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


class Scripts:
    """Copies of the pages' modules in a directory that says that they are modules."""

    def __init__(self, directory: Path) -> None:
        self._node = node()
        self._directory = directory
        for file in WEB.glob("*.js"):
            shutil.copy(file, directory)
        (directory / "package.json").write_text('{"type": "module"}')
        (directory / "call.js").write_text(_CALL)

    def call(self, module: str, name: str, calls: Sequence[Sequence[Any]]) -> list[Any]:
        """Call a module's function with each of the lists of arguments, and return what it returns."""
        given = json.dumps({"module": module, "name": name, "calls": calls})
        command = [self._node, "call.js"]
        result = subprocess.run(
            command, input=given, cwd=self._directory, capture_output=True, text=True, encoding="utf-8", check=False
        )
        assert result.returncode == 0, result.stderr
        answers: list[Any] = json.loads(result.stdout)
        return answers
