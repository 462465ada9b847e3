"""What a wheel holds: the code of all packages, and the files beside it that an installation needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("server", "streaming", "model", "media", "client")
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names in a wheel that is built from links to the sources, so that nothing is written beside them."""
    sources, built = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("built")
    for name in (*PACKAGES, "pyproject.toml", "README.md", "LICENSE"):
        (sources / name).symlink_to(ROOT / name)
    result = subprocess.run(
        [sys.executable, "-c", BUILD, built], cwd=sources, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    with ZipFile(next(built.glob("*.whl"))) as archive:
        return set(archive.namelist())


def beside_the_code(package: str) -> set[str]:
    """Files of a package that are not modules, as a wheel names them."""
    directory = ROOT / package
    return {
        f"parastream/{package}/{path.relative_to(directory).as_posix()}"
        for path in directory.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_typed(wheel: set[str], package: str) -> None:
    assert f"parastream/{package}/py.typed" in wheel


@pytest.mark.parametrize("package", PACKAGES)
def test_pages_models_and_recordings_are_in_the_wheel(wheel: set[str], package: str) -> None:
    assert beside_the_code(package) - wheel == set()


def test_the_javascript_client_is_in_the_wheel_for_the_pages(wheel: set[str]) -> None:
    scripts = {path.name for path in (ROOT / "client-js" / "src").iterdir()}
    assert {f"parastream/server/web/client/{name}" for name in scripts} - wheel == set()


def test_every_module_is_in_the_wheel(wheel: set[str]) -> None:
    modules = {
        f"parastream/{path.relative_to(ROOT).as_posix()}" for name in PACKAGES for path in (ROOT / name).rglob("*.py")
    }
    assert modules - wheel == set()
