"""Rules of the code base that no linter knows."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("server", "streaming", "model", "media", "client")
MODULES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LONGEST = 600

ALLOWED = {
    "model": ["model"],
    "streaming": ["streaming", "model", "media.mixing"],
    "media": ["media"],
    "server": ["server", "streaming", "model", "media"],
    "client": ["client", "server.wire.messages", "server.transcripts", "model.text", "media"],
}
"""What each package may import of parastream: imports point one way."""

COMMAND_LINE = Path("client/cli")
"""It puts the packages together, and may import all of them."""


def imports(path: Path) -> tuple[str, ...]:
    """Full names of the modules that a file imports, with what is taken from them: `parastream.model.blas`."""
    return _imports(ROOT, path)


@functools.cache
def _imports(root: Path, path: Path) -> tuple[str, ...]:
    return tuple(_find_imports(ast.parse((root / path).read_text()), path))


def _find_imports(tree: ast.Module, path: Path) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                parents = ("parastream", *path.parts[: len(path.parts) - node.level])
                module = ".".join((*parents, module)).rstrip(".")
            yield from (f"{module}.{alias.name}" for alias in node.names)


def within(name: str, *modules: str) -> bool:
    return any(f"{name}.".startswith(f"{module}.") for module in modules)


def test_imports_point_one_way() -> None:
    for path in MODULES:
        if not path.is_relative_to(COMMAND_LINE):
            allowed = [f"parastream.{name}" for name in ALLOWED[path.parts[0]]]
            ours = [name for name in imports(path) if within(name, "parastream")]
            assert [name for name in ours if not within(name, *allowed)] == [], path


FLOORS = [
    "config",
    "log",
    "metrics",
    "wire",
    "transcripts",
    "sessions",
    "engines",
    "protocols",
    "rooms",
    "transport",
    "routes",
    "http",
    "listeners",
    "announcement",
    "app",
    "main",
]
"""The rooms of `server/`, from the ground up: each imports from those before it only."""


def test_no_room_of_the_server_imports_from_one_above_it() -> None:
    for path in MODULES:
        if path.parts[0] == "server" and path.parts[1] != "__init__.py":
            room = path.parts[1].removesuffix(".py")
            below = [f"parastream.server.{name}" for name in FLOORS[: FLOORS.index(room) + 1]]
            ours = [name for name in imports(path) if within(name, "parastream.server")]
            assert [name for name in ours if not within(name, *below)] == [], path


def test_no_second_copy_of_a_module() -> None:
    """`import server` finds the same files from the root, and makes other module objects of them."""
    for path in [*MODULES, *(path.relative_to(ROOT) for path in (ROOT / "tests").rglob("*.py"))]:
        assert [name for name in imports(path) if name.split(".")[0] in PACKAGES] == [], path


IO_MODULES = [
    *("codecs", "fcntl", "fileinput", "filelock", "glob", "io", "mmap", "os", "pathlib", "pickle", "shelve", "shutil"),
    *("aiofiles", "av", "soundfile", "sqlite3", "tarfile", "tempfile", "yaml", "zipfile"),
    *("asyncio", "ftplib", "http", "httpx", "httpx2", "huggingface_hub", "requests", "select", "selectors", "smtplib"),
    *("socket", "socketserver", "ssl", "urllib", "urllib3", "websockets"),
    *("multiprocessing", "pty", "rich", "signal", "sounddevice", "subprocess", "sys", "typer"),
]
"""What reads files, talks to networks, processes or terminals, or asks the environment."""

IO_CALLS = [
    *("open", "input", "print", "exec", "eval", "compile", "__import__", "breakpoint"),
    *("read_text", "read_bytes", "write_text", "write_bytes"),
    *("fromfile", "tofile", "memmap", "loadtxt", "savetxt", "genfromtxt", "savez"),
]
"""Functions of that kind: built-in ones, and methods of paths and NumPy's."""

LOADING = [
    *(f"parastream.model.{name}" for name in ("catalogue", "hubs", "hugging_face", "silero_weights")),
    *(f"parastream.model.{name}" for name in ("checkpoint", "directory", "load", "load_punctuation", "loading")),
    *(f"parastream.model.{name}" for name in ("load_search", "language.files", "language.loading", "search.loading")),
    "parastream.model.speech",
]
"""What reads models or asks the network for them."""

FACADE = Path("streaming/transcriber.py")
"""It has the models loaded that its caller does not hand in."""


def io_calls(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if name in IO_CALLS and ast.unparse(node.func) != "re.compile":
                yield f"{name} in line {node.lineno}"


def io(path: Path) -> list[str]:
    """What a module of `streaming/` imports and calls that does I/O."""
    banned = list(IO_MODULES)
    if path.name not in ("engine.py", "aside.py"):
        banned += ["threading", "concurrent", "queue"]
    if path != FACADE:
        banned += LOADING
    return [*(name for name in imports(path) if within(name, *banned)), *io_calls(path)]


def test_streaming_does_no_io() -> None:
    for path in MODULES:
        if path.parts[0] == "streaming":
            assert io(path) == [], path


@pytest.mark.parametrize(
    "source",
    [
        "import subprocess",
        "from urllib.request import urlopen",
        "import os.path",
        "from pathlib import Path",
        "import httpx2 as client",
        "from parastream.model import load",
        "from parastream.model import silero_weights",
        "from parastream.model.hubs import download",
        "def f():\n    import socket",
        "open('x')",
        "numpy.fromfile('x')",
        "path.read_bytes()",
        "print('x')",
    ],
)
def test_io_in_streaming_would_be_found(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "streaming").mkdir()
    (tmp_path / "streaming" / "bad.py").write_text(source)
    assert len(io(Path("streaming/bad.py"))) == 1


def test_modules_are_short_and_say_what_they_are() -> None:
    for path in MODULES:
        text = (ROOT / path).read_text()
        assert len(text.splitlines()) <= LONGEST, path
        if text:
            assert ast.get_docstring(ast.parse(text)), path


def test_every_package_is_installed() -> None:
    """The list in pyproject.toml, which the wheel is made from, against the directories."""
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    directories = {f"parastream.{'.'.join(path.parent.parts)}" for path in MODULES}
    assert sorted(setuptools["packages"]) == sorted(directories)


LEAVE_MLX = """
import importlib, sys
for module in sys.argv[1:]:
    importlib.import_module(f"parastream.{module}")
    if "mlx" in sys.modules:
        sys.exit(f"{module} imports MLX")
"""


@pytest.mark.process
def test_imports_leave_mlx_to_the_owner_of_the_process() -> None:
    """A fast BLAS can only be put in front of MLX before that is imported."""
    modules = [
        "model.text",
        "media",
        "client",
        "client.cli.main",
        "streaming",
        "streaming.engine",
        "server.app",
        "server.main",
    ]
    command = [sys.executable, "-c", LEAVE_MLX, *modules]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (0, "")
