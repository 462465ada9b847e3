"""Loading a speech model as a whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import parastream.model
import pytest
from parastream.model import SpeechModel, catalogue, device
from parastream.model.config import ChunkSize
from parastream.model.errors import CheckpointError, HubError, ModelConfigError, NoRoomError
from parastream.model.pool import Pool


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A copy of the embedded model to spoil."""
    return Path(shutil.copytree(catalogue.resolve("asr-small-en"), tmp_path / "model"))


def test_the_embedded_model(speech: SpeechModel) -> None:
    assert speech.name == "asr-small-en"
    assert speech.config.streams
    assert speech.window_samples == 9600
    assert len(speech.tokenizer) == speech.config.decoder.vocab_size == 1458
    assert speech.parameters == 30_866_963


def test_a_directory_loads_like_the_name_and_the_other_trained_window_works(directory: Path) -> None:
    model = parastream.model.load(directory, chunk=ChunkSize(0, 8, 4))
    model.warm_up()
    assert model.window_samples == 7680


@pytest.mark.parametrize("load", [parastream.model.load, parastream.model.load_final_pass])
def test_a_gpu_keeps_little_memory_for_a_model(load: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "on_cpu", lambda: False)
    before = mx.set_cache_limit(0)
    try:
        load("asr-small-en", compute="graphs")
        assert mx.set_cache_limit(before) == 512 * 2**20
    finally:
        mx.set_cache_limit(before)


def test_it_can_be_warmed_up_again_when_memory_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    model = parastream.model.load("asr-small-en", compute="mlx")
    model.warm_up()

    def fail(pool: Pool, slots: int) -> None:
        raise RuntimeError(f"no memory for {slots} slots")

    monkeypatch.setattr(Pool, "_resize", fail)
    states = [model.network.new_state() for _ in range(6)]  # the model has one of its own
    with pytest.raises(NoRoomError, match=r"^there is memory for 7 utterances, and no more: no memory for 16 slots$"):
        model.network.new_state()
    model.warm_up()
    states.pop()
    model.network.new_state()


@pytest.mark.parametrize("chunk", [ChunkSize(0, 10, 4), ChunkSize(5, 10, 5)])
def test_windows_that_the_model_was_not_trained_for_are_refused(chunk: ChunkSize) -> None:
    with pytest.raises(ModelConfigError, match=r"trained for \[0, 10, 5\] or \[0, 8, 4\]"):
        parastream.model.load(chunk=chunk)


def test_no_look_ahead_is_refused() -> None:
    with pytest.raises(ModelConfigError, match="look-ahead at least 1"):
        ChunkSize(0, 10, 0)


def test_an_unknown_name_says_what_there_is() -> None:
    with pytest.raises(HubError, match="paraformer-zh-streaming"):
        parastream.model.load("no-such-model", offline=True)


@pytest.mark.parametrize("name", ["config.yaml", "am.mvn", "tokens.json", "model.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "empty", "garbage", "truncated"])
def test_a_damaged_directory_is_named(directory: Path, name: str, damage: str) -> None:
    path = directory / name
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "garbage": b"\x80\x03[" * 50, "truncated": data[: len(data) // 2]}[damage])
    with pytest.raises((ModelConfigError, CheckpointError), match=name.split(".")[0]):
        parastream.model.load(directory)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("model: ParaformerStreaming", "model: Whisper", "Paraformer"),
        ("output_size: 384", "output_size: 250", "heads|shape"),
        ("output_size: 384", "output_size: wide", "output_size must be int"),
        ("num_blocks: 12", "num_blocks: 13", "missing"),
        ("num_blocks: 12", "num_blocks: 11", "unexpected"),
        ("threshold: 1.0", "threshold: 0.9", "threshold must be 1.0"),
        ("window: hamming", "window: povey", "hamming"),
        ("lfr_m: 7", "lfr_m: 5", "560|400"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(directory: Path, old: str, new: str, message: str) -> None:
    path = directory / "config.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises((ModelConfigError, CheckpointError), match=message):
        parastream.model.load(directory)
