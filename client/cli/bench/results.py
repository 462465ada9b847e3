"""Results of benchmarks: one JSON object each, which names the machine, and the table that compares them."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parastream.client.errors import ClientError
from parastream.model import blas

Result = dict[str, Any]


def hardware() -> str:
    """Return the names of the processor and, where MLX uses one, the GPU."""
    import mlx.core as mx  # not before prepare_process, which is up to the program

    processor = platform.processor() or platform.machine()
    if sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), processor)
    cpus = blas.cpu_count()
    parts = [f"{processor}, {cpus} CPU{'s' if cpus > 1 else ''}, {platform.system()} {platform.machine()}"]
    if mx.default_device().type == mx.gpu:
        parts.append(str(mx.device_info(mx.default_device()).get("device_name", "GPU")))
    return "; ".join(parts)


def publish(result: Result, file: Path | None) -> None:
    """Print a result, and write it as JSON if a file is named.

    Raises:
        OSError: The file cannot be written.
    """
    figures = flat(result)
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"{name:{width}}  {_shown(value)}")
    if file is not None:
        file.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def read(file: Path) -> Result:
    """Read a result from a file.

    Raises:
        ClientError: The file does not hold a result.
        OSError: The file cannot be read.
    """
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ClientError(f"{file} is not JSON: {error}") from error
    if not isinstance(result, dict) or "hardware" not in result:
        raise ClientError(f"{file} does not hold the result of a benchmark: it names no hardware")
    return result


def table(names: Sequence[str], results: Sequence[Result]) -> str:
    """Return a Markdown table with a column for each result and a row for each figure that any of them has."""
    columns = [flat(result) for result in results]
    figures = dict.fromkeys(figure for column in columns for figure in column)
    rows = [["", *names], ["---"] * (1 + len(names))]
    rows += [[figure, *(_shown(column.get(figure, "")) for column in columns)] for figure in figures]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)


def flat(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values under joined names, such as `partial_ms p95`, without lists."""
    values: dict[str, Any] = {}
    for name, value in result.items():
        if isinstance(value, Mapping):
            values |= {f"{name} {inner}": v for inner, v in flat(value).items()}
        elif not isinstance(value, list):
            values[name] = value
    return values


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)
