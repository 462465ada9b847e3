"""Make what the comparison needs on disk, once: the peers' environment, the weights in every form, the recording."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from parastream.client.sources import read, sample_recording
from parastream.model import random_weights
from parastream.streaming.audio import resample

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements.txt"


def versions() -> list[str]:
    """List the peers and their dependencies as `name==version`."""
    return [line.split()[0] for line in REQUIREMENTS.read_text().splitlines() if not line.startswith("#")]


def peers_python(work: Path) -> Path:
    """Return the Python that can import the peers."""
    directory = _made(work / "environment", [REQUIREMENTS], _install)
    return directory / "bin" / "python"


def weights(work: Path, *, onnx: bool) -> Path:
    """Return a model directory of full size with random weights. sherpa-onnx can load it only with `onnx`."""
    python = peers_python(work)

    def make(directory: Path) -> None:
        random_weights.save(directory)
        run([python, HERE / "export.py", directory, *(["onnx"] if onnx else [])], work / "export.log")

    return _made(
        work / ("model" if onnx else "model-torch"),
        [Path(random_weights.__file__), HERE / "export.py", REQUIREMENTS],
        make,
    )


def recording(work: Path) -> Path:
    """Return the embedded recording as an array file, 16 kHz."""
    with sample_recording() as sample:
        samples = resample(*read(sample))
    np.save(work / "recording.npy", samples)
    return work / "recording.npy"


def run(command: list[str | Path], log: Path) -> None:
    """Run a program with its output in a file.

    Raises:
        SystemExit: it failed; the message names the file.
    """
    with log.open("wb") as output:
        status = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL).returncode
    if status:
        sys.exit(f"{Path(command[0]).name} failed: see {log}")


def _install(directory: Path) -> None:
    venv.create(directory, with_pip=True)
    run([directory / "bin" / "python", "-m", "pip", "install", "-r", REQUIREMENTS], directory.parent / "install.log")


def _made(directory: Path, sources: list[Path], make: Callable[[Path], None]) -> Path:
    """Return a directory made from the sources as they are now, and make it again if they have changed."""
    wanted = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    stamp = directory / "made-from"
    if not stamp.is_file() or stamp.read_text() != wanted:
        print(f"making {directory} (once; takes minutes)", file=sys.stderr)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        make(directory)
        stamp.write_text(wanted)
    return directory
