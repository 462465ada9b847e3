"""`parastream doctor`: checks of everything that parastream runs on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import mlx.core as mx
from parastream.client.microphone import MicrophoneError, list_devices
from parastream.model import blas, load, load_punctuation, silero_weights
from parastream.model.cache_directory import cache_directory
from parastream.model.errors import HubError, ParastreamError
from parastream.model.processor import sums_bytes_exactly
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

State = Literal["ok", "warn", "fail"]

_PACKAGES = ("mlx", "numpy", "onnxruntime", "websockets", "soxr", "av")
_STYLES: dict[State, str] = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    name: str
    state: State
    """`warn`: parastream works, but slowly or without something; `fail`: it does not work."""
    text: str


def report() -> Iterator[Finding]:
    """Make each check in turn; one that fails does not stop the others."""
    for name, look in _CHECKS.items():
        try:
            state, text = look()
        except ParastreamError as error:
            state, text = "fail", str(error)
        except Exception as error:  # any failure here is what the user wants to see
            state, text = "fail", f"{type(error).__name__}: {error}"
        yield Finding(name, state, text)


def run() -> int:
    """Print the report and return the exit status: 1 if a check fails."""
    table = Table.grid("name", "state", Column(overflow="fold"), padding=(0, 2))
    states = []
    for finding in report():
        states.append(finding.state)
        # As Text, since Rich would take brackets in messages for markup.
        table.add_row(finding.name, Text(finding.state, _STYLES[finding.state]), Text(finding.text))
    Console(highlight=False).print(table)
    return int("fail" in states)


def multiplication_speed(seconds: float = 0.2) -> float:
    """Measure the GFLOP/s of float32 matrix products, shaped like a feed-forward layer, on MLX's default device."""
    rows, inner, columns = 240, 512, 2048
    a, b = mx.ones((rows, inner)), mx.ones((inner, columns))
    mx.eval(a @ b)
    products, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        mx.eval(a @ b)
        products += 1
    return 2 * rows * inner * columns * products / elapsed / 1e9


def _versions() -> tuple[State, str]:
    missing, found = [], []
    for package in ("parastream", *_PACKAGES):
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    if missing:
        return "fail", f"not installed: {', '.join(missing)}"
    return "ok", ", ".join(found)


def _python() -> tuple[State, str]:
    return "ok", f"{platform.python_version()} on {platform.platform()}, {sys.executable}"


def _device() -> tuple[State, str]:
    device = mx.default_device()
    kind = "GPU" if device.type == mx.gpu else "CPU"
    name = f"{kind}, {mx.device_info(device).get('device_name', 'unknown')}"
    cpus = blas.cpu_count()
    text = f"{name}, {cpus} CPU{'s' if cpus > 1 else ''} to use"
    if kind == "CPU" and (cuda := [name for name in ("mlx-cuda-12", "mlx-cuda-13") if _installed(name)]):
        return "warn", f"{text}; {cuda[0]} is installed but its GPU is not in use (is mlx-cpu installed over it?)"
    return "ok", text


def _blas() -> tuple[State, str]:
    info = blas.info()
    text = f"{info}; {multiplication_speed():.0f} GFLOP/s in float32 on MLX's device"
    if mx.default_device().type == mx.cpu:
        if not info.fast:
            return "warn", text
        if core := os.environ.get("OPENBLAS_CORETYPE"):
            return "warn", f"{text}; OPENBLAS_CORETYPE={core} is set, which may slow it down"
    return "ok", text


def _speech_model() -> tuple[State, str]:
    start = time.perf_counter()
    model = load(offline=True)
    model.warm_up()
    seconds = time.perf_counter() - start
    weights = f"{model.parameters / 1e6:.1f} million weights"
    return "ok", f"{model.name}, {weights}, loaded and run by {model.computing} in {seconds:.1f} s"


def _int8() -> tuple[State, str]:
    if sums_bytes_exactly():
        return "ok", "this CPU has fast products of bytes with exact sums"
    return "warn", (
        "this CPU lacks VNNI: models are computed in float32 unless --dtype int8 is asked for, which then takes slower"
        " instructions that are as exact"
    )


def _punctuation() -> tuple[State, str]:
    return "ok", f"{load_punctuation(offline=True).form} form"


def _vad() -> tuple[State, str]:
    try:
        return "ok", str(silero_weights.find(offline=True))
    except HubError:
        return "warn", "no weights of silero-vad yet: pip fetches them at the first use, which needs the network"


def _microphones() -> tuple[State, str]:
    try:
        devices = list_devices()
    except MicrophoneError as error:
        return "warn", f"{error} (needed by `parastream mic` only)"
    if not devices:
        return "warn", "no device that records (needed by `parastream mic` only)"
    return "ok", ", ".join(device.name + (" (default)" if device.default else "") for device in devices)


def _cache() -> tuple[State, str]:
    directory = cache_directory()
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK)):
        return "warn", f"{directory} cannot be written: downloaded models are not kept"
    size = sum(_size(path) for path in directory.rglob("*"))
    return "ok", f"{directory}, {size / 1e6:.0f} MB"


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:  # removed by another process meanwhile
        return 0


def _installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


_CHECKS: dict[str, Callable[[], tuple[State, str]]] = {
    "versions": _versions,
    "python": _python,
    "device": _device,
    "BLAS": _blas,
    "int8": _int8,
    "speech model": _speech_model,
    "punctuation": _punctuation,
    "voice activity": _vad,
    "microphones": _microphones,
    "cache": _cache,
}
