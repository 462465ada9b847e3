"""`parastream doctor`: what it looks at, and that broken things are told apart from missing ones."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from parastream.client.cli import doctor
from parastream.model import blas, catalogue

from tests.client.cli.command import Run


@pytest.fixture
def findings() -> dict[str, doctor.Finding]:
    return {finding.name: finding for finding in doctor.report()}


def test_a_working_installation(findings: dict[str, doctor.Finding]) -> None:
    assert [finding for finding in findings.values() if finding.state == "fail"] == []
    assert sys.version.split()[0] in findings["python"].text
    assert "parastream" in findings["versions"].text
    assert "mlx" in findings["versions"].text
    assert str(blas.info()) in findings["BLAS"].text
    assert "GFLOP/s" in findings["BLAS"].text
    assert findings["speech model"].text.startswith("asr-small-en")
    assert re.search(r"run by (graphs in (int8|float32)|MLX in bfloat16) in", findings["speech model"].text)
    assert findings["voice activity"].text.endswith(".onnx")


@pytest.mark.parametrize(
    ("machine", "flags", "state", "dtype"),
    [
        ("x86_64", "avx2 avx512_vnni", "ok", "int8"),
        ("x86_64", "avx2 avx512f", "warn", "float32"),
        ("aarch64", "", "ok", "int8"),
    ],
)
def test_what_8_bits_cost_on_this_cpu(
    machine: str, flags: str, state: str, dtype: str, cpu: Callable[[str, str], None]
) -> None:
    cpu(machine, flags)
    report = doctor.report()
    finding = next(finding for finding in report if finding.name == "int8")
    assert finding.state == state
    assert ("lacks VNNI" in finding.text) is (state == "warn")
    loaded = next(finding for finding in report if finding.name == "speech model")
    assert re.search(rf"run by (graphs in {dtype}|MLX in bfloat16) in", loaded.text)


def test_a_damaged_model_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(catalogue, "_ASSETS", tmp_path)
    (tmp_path / "asr-small-en").mkdir()
    assert doctor.run() == 1
    lines = capsys.readouterr().out.splitlines()
    (line,) = (line for line in lines if line.startswith("speech model"))
    assert "fail" in line
    assert any(line.startswith("cache") for line in lines), "the rest is still looked at"


@pytest.mark.skipif(sys.platform != "linux", reason="PortAudio comes with sounddevice")
def test_without_portaudio(monkeypatch: pytest.MonkeyPatch) -> None:
    """`import sounddevice` raises OSError where the library is not found."""
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    finding = next(finding for finding in doctor.report() if finding.name == "microphones")
    assert finding.state == "warn"
    assert "parastream mic" in finding.text


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PARASTREAM_CACHE", str(tmp_path / "file" / "cache"))
    finding = next(finding for finding in doctor.report() if finding.name == "cache")
    assert finding.state == "warn"
    assert str(tmp_path / "file") in finding.text


def test_weights_that_are_fetched_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain installation has no silero-vad."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PARASTREAM_CACHE", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    finding = next(finding for finding in doctor.report() if finding.name == "voice activity")
    assert finding.state == "warn"
    assert "at the first use" in finding.text


def test_a_missing_package_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PACKAGES", ("mlx", "no-such-package"))
    finding = next(finding for finding in doctor.report() if finding.name == "versions")
    assert finding.state == "fail"
    assert "no-such-package" in finding.text


def test_the_command(run: Run) -> None:
    result = run("doctor")
    assert result.status == 0
    assert "BLAS" in result.out
