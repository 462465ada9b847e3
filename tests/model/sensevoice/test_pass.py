"""SenseVoice as a final pass: batches, slices, languages, tags, limits; and what its directory may not be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from numpy.typing import NDArray
from parastream.model import FinalPass, checkpoint, load, load_final_pass, torch_zip
from parastream.model.errors import AudioError, CheckpointError, ModelConfigError
from parastream.model.final_pass import FinalInput, Hypothesis
from parastream.model.lanes import finish
from parastream.model.quantization import Quantization

FOLDER = Path(__file__).parents[2] / "reference" / "sensevoice"
MODEL = FOLDER / "model"
PIECES = "chn_jpn_yue_eng_ko_spectok.bpe.model"

Float32 = NDArray[np.float32]


@pytest.fixture(scope="module")
def ear() -> FinalPass:
    return load_final_pass(MODEL, dtype="float32")


@pytest.fixture(scope="module")
def waves() -> dict[str, Float32]:
    return {name: wave.astype(np.float32) / 32768 for name, wave in np.load(FOLDER / "waves_int16.npz").items()}


def whole(ear: FinalPass, *utterances: FinalInput) -> list[Hypothesis]:
    return finish(ear.transcribe_in_slices(utterances, steps=1000))


def alike(one: Hypothesis, other: Hypothesis) -> bool:
    """The same words at the same times, and probabilities up to rounding."""
    numbers = [[word.confidence for word in h.words] for h in (one, other)]
    times = [[(word.start, word.end) for word in h.words] for h in (one, other)]
    same = (one.text, one.language, one.emotion, one.sound) == (other.text, other.language, other.emotion, other.sound)
    return same and times[0] == times[1] and np.allclose(numbers[0], numbers[1], atol=1e-3)


def test_a_batch_gives_each_utterance_what_it_gets_alone(ear: FinalPass, waves: dict[str, Float32]) -> None:
    cuts = [waves["A"], waves["B"], waves["A"][:16000], waves["B"][:700]]
    languages = [None, "yue", "ko", None]
    utterances = [FinalInput(cut, language) for cut, language in zip(cuts, languages, strict=True)]
    together = whole(ear, *utterances)
    assert all(alike(found, *whole(ear, one)) for found, one in zip(together, utterances, strict=True))
    assert min(len(found.words) for found in together[:3]) > 2


def test_slices_have_the_steps_that_were_asked_for(ear: FinalPass, waves: dict[str, Float32]) -> None:
    utterance = FinalInput(waves["B"])
    one, three, all_of_them = (
        sum(1 for _ in ear.transcribe_in_slices([utterance], steps=steps)) for steps in (1, 3, 1000)
    )
    assert (one, three, all_of_them) == (ear.steps(2.6), ear.steps(2.6) // 3, 0) == (11, 3, 0)


def test_what_it_says_of_an_utterance(ear: FinalPass, waves: dict[str, Float32]) -> None:
    found, bare, pinned = whole(
        ear, FinalInput(waves["B"]), FinalInput(waves["B"], marks=False), FinalInput(waves["B"], "ja")
    )
    assert (found.ear, found.marked, found.language, found.emotion, found.sound) == ("model", True, "zh", None, "music")
    assert bare.text.startswith("d 감qu요oy요la02at요 天気 ickofic 至 y")
    assert not bare.marked
    assert pinned.language == "ja"
    assert pinned.text != found.text
    assert all(0 <= word.start < word.end <= len(waves["B"]) / 16000 for word in found.words)


def test_what_it_can_do(ear: FinalPass) -> None:
    can = ear.capabilities
    assert can.languages == ("zh", "en", "yue", "ja", "ko")
    assert (can.writes_marks, can.takes_hotwords, can.gives_word_times, can.longest_seconds) == (True, False, True, 30)
    ear.warm_up()


def test_less_than_a_frame_is_nothing(ear: FinalPass) -> None:
    (found,) = whole(ear, FinalInput(np.ones(399, np.float32)))
    assert (found.words, found.no_speech) == ((), 1.0)


def test_it_refuses_what_it_cannot_hear(ear: FinalPass) -> None:
    with pytest.raises(AudioError, match=r"hears at most 30 s, not 30\.5"):
        whole(ear, FinalInput(np.zeros(488000, np.float32)))
    with pytest.raises(AudioError, match="does not know the language 'fr'; it knows zh, en, yue, ja, ko"):
        whole(ear, FinalInput(np.zeros(16000, np.float32), "fr"))


def test_nobody_speaking_is_no_language(tmp_path: Path, waves: dict[str, Float32]) -> None:
    """With the head's bias raised for the tag of silence, and for nothing else."""
    silence = 305

    def silent(weights: dict[str, Float32]) -> None:
        weights["ctc.ctc_lo.bias"][silence] += 100

    (found,) = whole(load_final_pass(rewritten(tmp_path, silent), dtype="float32"), FinalInput(waves["B"]))
    assert (found.language, found.text) == (None, "")
    assert found.no_speech > 0.99


# --- directories ------------------------------------------------------------------------------------


def rewritten(tmp_path: Path, change: Callable[[dict[str, Float32]], None]) -> Path:
    """Write the model with other weights, under FunASR's names."""
    directory = tmp_path / "model"
    shutil.copytree(MODEL, directory, ignore=shutil.ignore_patterns("model.pt", "configuration.json"))
    weights = {name: value.copy() for name, value in torch_zip.read(MODEL / "model.pt").items()}
    change(weights)
    mx.save_safetensors(str(directory / "model.safetensors"), {name: mx.array(v) for name, v in weights.items()})
    return directory


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("embed.weight"), "1 missing: prompts"),
        (lambda weights: weights.pop("encoder.tp_encoders.1.norm2.bias"), "1 missing: encoder.tp_layers.1.norm2.bias"),
        (lambda weights: weights.update({"ctc.more": np.zeros(3, np.float32)}), "1 unexpected: ctc.more"),
        (
            lambda weights: weights.update({"ctc.ctc_lo.bias": np.zeros(3, np.float32)}),
            r"of another shape: ctc.bias \(3,\) instead of \(329,\)",
        ),
        (lambda weights: weights["encoder.tp_norm.weight"].fill(np.nan), "1 with NaN or infinity: encoder.tp_norm"),
    ],
)
def test_weights_must_fit_exactly(tmp_path: Path, change: Callable[[dict[str, Float32]], None], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_final_pass(rewritten(tmp_path, change))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return shutil.copytree(MODEL, tmp_path / "model")


def test_another_form_of_the_directory_hears_the_same(
    tmp_path: Path, ear: FinalPass, waves: dict[str, Float32]
) -> None:
    checkpoint.convert(MODEL, tmp_path / "model", "float32")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        *("am.mvn", PIECES, "config.yaml", "configuration.json", "model.safetensors")
    ]
    other = load_final_pass(tmp_path / "model", dtype="float32")
    found, expected = (whole(each, FinalInput(waves["A"]))[0] for each in (other, ear))
    assert alike(found, expected)
    checkpoint.quantize(MODEL, tmp_path / "eight", Quantization(8, 64), "float32")
    (eight,) = whole(load_final_pass(tmp_path / "eight"), FinalInput(waves["A"]))
    assert eight.language == expected.language
    assert abs(len(eight.words) - len(expected.words)) < 5


def test_it_is_no_model_for_streaming(directory: Path) -> None:
    with pytest.raises(ModelConfigError, match=r"SenseVoiceSmall.* transcribes whole utterances only"):
        load(directory)


def test_pieces_are_found_by_their_names(directory: Path) -> None:
    (directory / "configuration.json").unlink()
    assert load_final_pass(directory).name == "model"
    shutil.copy(directory / PIECES, directory / "bpe.model")
    with pytest.raises(ModelConfigError, match=f"needs one file .*bpe.model; there are bpe.model, {PIECES}"):
        load_final_pass(directory)
    (directory / PIECES).unlink()
    (directory / "bpe.model").unlink()
    with pytest.raises(ModelConfigError, match=r"needs one file .*bpe.model; there are none"):
        load_final_pass(directory)


@pytest.mark.parametrize("name", [7, "../pieces.bpe.model"])
def test_pieces_lie_in_the_directory(directory: Path, name: object) -> None:
    content = {"file_path_metas": {"init_param": "model.pt", "tokenizer_conf": {"bpemodel": name}}}
    (directory / "configuration.json").write_text(json.dumps(content))
    with pytest.raises(ModelConfigError, match=r"bpemodel is .*, not the name of a file beside it"):
        load_final_pass(directory)


@pytest.mark.parametrize("damage", [lambda data: data[:-3], lambda data: b"\x0f" + data, lambda data: b"\x08" * 30])
def test_damaged_pieces_are_refused(directory: Path, damage: Callable[[bytes], bytes]) -> None:
    path = directory / PIECES
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ModelConfigError, match=PIECES):
        load_final_pass(directory)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("tp_blocks: 2", "tp_blocks: -1", "tp_blocks must be from 0 to 1000, got -1"),
        ("tp_blocks: 2", "tp_blocks: 900", "too few for the"),
        ("num_blocks: 3", "num_blocks: 0", "num_blocks must be positive"),
    ],
)
def test_sizes_that_cannot_be_are_refused(directory: Path, old: str, new: str, message: str) -> None:
    path = directory / "config.yaml"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(CheckpointError, match=message):
        load_final_pass(directory)
