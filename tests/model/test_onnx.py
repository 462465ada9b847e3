"""onnxruntime keeps what it sees to itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

EMBEDDED = Path(str(files("parastream.model"))) / "assets"

RESOLVER = """\
#include <fcntl.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **res) {
  int file = open(getenv("ASKED"), O_WRONLY | O_CREAT | O_APPEND, 0600);
  if (node) write(file, node, strlen(node));
  close(file);
  return EAI_FAIL;
}
"""
PUNCTUATE = """
from pathlib import Path
from parastream.model.directory import ModelDirectory
from parastream.model.punctuation import Punctuator
print(Punctuator.from_directory(ModelDirectory(Path({directory!r}))).punctuate("how are you"))
"""
PLAIN = """
import onnxruntime
onnxruntime.InferenceSession({network!r})
print(onnxruntime.__version__)
"""


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """The environment of a process whose files and questions to the resolver can be seen."""
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    environment |= {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "home")}
    environment |= {"ASKED": str(tmp_path / "asked")}
    compiler = shutil.which("cc")
    if sys.platform == "linux" and compiler is not None:
        source, library = tmp_path / "resolver.c", tmp_path / "resolver.so"
        source.write_text(RESOLVER)
        subprocess.run([compiler, "-w", "-shared", "-fPIC", "-o", library, source], check=True)
        environment["LD_PRELOAD"] = str(library)
    (tmp_path / "home").mkdir()
    return environment


def left_behind(program: str, environment: dict[str, str]) -> tuple[str, list[str], bool]:
    """What a program prints, the files that it leaves in its home, and whether it has asked the resolver."""
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    left = [path.name for path in Path(environment["HOME"]).rglob("*") if path.is_file()]
    return result.stdout.strip(), left, Path(environment["ASKED"]).exists()


def test_punctuation_leaves_no_trace_and_asks_nobody(home: dict[str, str]) -> None:
    program = PUNCTUATE.format(directory=str(EMBEDDED / "punc-small-offline"))
    assert left_behind(program, home) == ("How are you?", [], False)


def test_without_the_precaution_there_would_be_a_trace(home: dict[str, str]) -> None:
    """So the test before this one sees what it looks for."""
    network = next((EMBEDDED / "punc-small-offline").glob("*.onnx"))
    version, left, _ = left_behind(PLAIN.format(network=str(network)), home)
    if tuple(map(int, version.split(".")[:2])) < (1, 29) or sys.platform != "linux":
        pytest.skip("this onnxruntime does not phone home")
    assert "deviceid" in left
