"""What is known about the CPU."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

import pytest
from parastream.model import processor


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    processor.sums_bytes_exactly.cache_clear()
    yield
    processor.sums_bytes_exactly.cache_clear()


@pytest.mark.parametrize(
    ("machine", "flags", "exact"),
    [
        ("x86_64", "fpu avx2 avx512f avx512_vnni", True),
        ("x86_64", "fpu avx2 avx_vnni", True),
        ("AMD64", "fpu avx2 avx512f", False),
        ("x86_64", "", False),
        ("aarch64", "", True),
        ("arm64", "", True),
    ],
)
def test_bytes_are_summed_exactly(
    machine: str, flags: str, exact: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    monkeypatch.setattr(processor, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert processor.sums_bytes_exactly() is exact


@pytest.mark.parametrize("content", [None, "model name : something"])
def test_a_processor_that_does_not_say(content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if content is not None:
        (tmp_path / "cpuinfo").write_text(content)
    monkeypatch.setattr(processor, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert not processor.sums_bytes_exactly()
