"""What is known about the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from parastream.model import processor


@pytest.mark.parametrize(
    ("machine", "flags", "exact"),
    [
        ("x86_64", "fpu avx2 avx512f avx512_vnni", True),
        ("x86_64", "fpu avx2 avx_vnni", True),
        ("x86_64", "fpu avx2 avx512f avx512_vnni amx_tile amx_int8", True),
        ("AMD64", "fpu avx2 avx512f", False),
        ("x86_64", "", False),
        ("aarch64", "", True),
        ("arm64", "", True),
    ],
)
def test_bytes_are_summed_exactly(machine: str, flags: str, exact: bool, cpu: Callable[[str, str], None]) -> None:
    cpu(machine, flags)
    assert processor.sums_bytes_exactly() is exact


@pytest.mark.parametrize("content", [None, "model name : something"])
def test_a_processor_that_does_not_say(
    content: str | None, cpu: Callable[[str, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu("x86_64", "avx512_vnni")
    if content is None:
        monkeypatch.setattr(processor, "_CPUINFO", tmp_path / "nothing")
    else:
        (tmp_path / "cpuinfo").write_text(content)
    assert not processor.sums_bytes_exactly()
