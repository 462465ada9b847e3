"""Whisper's stages and the embedded model against an independent implementation, on real speech."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from parastream.model import catalogue
from parastream.model.choice import NO_SPEECH
from parastream.model.final_pass import FinalInput, Hypothesis
from parastream.model.hotwords import Hotword
from parastream.model.lanes import finish
from parastream.model.whisper.decoding import Decoding
from parastream.model.whisper.log_mel import SILENCE, log_mel, mel_filters
from parastream.model.whisper.speech import WhisperPass

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "reference" / "whisper"
RECORDINGS: list[dict[str, Any]] = json.loads((FOLDER / "recordings.json").read_text())["recordings"]

Float32 = NDArray[np.float32]


@pytest.fixture(scope="module", params=["mlx", "graphs"])
def ear(request: pytest.FixtureRequest) -> WhisperPass:
    """The embedded model in float32."""
    return WhisperPass.from_directory(catalogue.resolve("whisper-tiny-en"), compute=request.param, dtype="float32")


@pytest.fixture(scope="module")
def in_bytes() -> WhisperPass:
    """The embedded model in 8 bits."""
    return WhisperPass.from_directory(catalogue.resolve("whisper-tiny-en"), compute="graphs", dtype="int8")


@pytest.fixture(scope="module")
def expected() -> dict[str, NDArray[Any]]:
    return dict(np.load(FOLDER / "clip.npz"))


@pytest.fixture(scope="module")
def clip() -> Float32:
    return read(FOLDER / "clip.flac")


def read(path: Path) -> Float32:
    samples, rate = soundfile.read(path, dtype="float32")
    assert rate == 16000
    return np.asarray(samples, np.float32)


@pytest.fixture
def decoded(ear: WhisperPass, monkeypatch: pytest.MonkeyPatch) -> dict[int, Decoding]:
    """What is decoded while the test runs, by the identity of the utterance."""
    return watched(ear, monkeypatch)


def watched(ear: WhisperPass, monkeypatch: pytest.MonkeyPatch) -> dict[int, Decoding]:
    """What an ear decodes from now on, by the identity of the utterance."""
    found: dict[int, Decoding] = {}
    original = ear._hypothesis

    def kept(utterance: FinalInput, decoding: Decoding) -> Hypothesis:
        found[id(utterance)] = decoding
        return original(utterance, decoding)

    monkeypatch.setattr(ear, "_hypothesis", kept)
    return found


# --- features -------------------------------------------------------------------------------------


def test_features(clip: Float32, expected: dict[str, NDArray[Any]]) -> None:
    np.testing.assert_allclose(log_mel(clip, len(clip), 80), expected["log_mel"], atol=1e-5)


@pytest.mark.parametrize("mels", [80, 128])
def test_digital_silence_has_one_value(mels: int) -> None:
    found = log_mel(np.zeros(100, np.float32), 16000, mels)
    assert found.shape == (100, mels)
    np.testing.assert_allclose(found, SILENCE, atol=1e-6)


@pytest.mark.parametrize("mels", [80, 128])
def test_mel_filters_are_openais(mels: int) -> None:
    known = np.load(FOLDER / "mel_filters.npz")[f"mel_{mels}"]
    np.testing.assert_allclose(mel_filters(mels).T, known, atol=1e-7)


# --- stages ---------------------------------------------------------------------------------------


def test_the_encoder_with_its_silent_tail(ear: WhisperPass, clip: Float32, expected: dict[str, NDArray[Any]]) -> None:
    *_, rows = ear._encode(clip, len(clip) + 16000)
    found = ear._with_tail(rows)
    encoded = np.concatenate([np.array(part) for part in found.rows])[:, ::3]
    np.testing.assert_allclose(encoded[: len(rows)], expected["encoded"][: len(rows)], atol=2e-3)
    np.testing.assert_allclose(encoded, expected["encoded"], atol=6e-3)  # the tail is stored in float16
    np.testing.assert_allclose(found.weights, expected["weights"], atol=1e-6)
    silence = np.array(ear._network.encoder.encode_silence())
    np.testing.assert_allclose(silence[::50, ::3], expected["silence"], atol=2e-3)
    np.testing.assert_allclose(np.array(ear._silence), silence, atol=6e-3)


@pytest.mark.parametrize("pieces", [[6], [2, 4], [1, 1, 4], [1] * 6])
def test_the_decoder_however_its_tokens_come(
    pieces: list[int], ear: WhisperPass, clip: Float32, expected: dict[str, NDArray[Any]]
) -> None:
    *_, rows = ear._encode(clip, len(clip) + 16000)
    heard, decoder = ear._with_tail(rows), ear._network.decoder
    state = finish(decoder.begin([heard]))
    logits = []
    for part in np.split(expected["tokens"], np.cumsum(pieces)[:-1]):
        finish(decoder.step(part[None] // 2, state))  # other tokens, which are then forgotten
        state.cut(state.length - len(part))
        hidden, _ = finish(decoder.step(part[None], state))
        logits.append(decoder.logits(hidden[0]))
    np.testing.assert_allclose(np.concatenate(logits)[:, ::16], expected["logits"], atol=5e-3)


# --- whole recordings -----------------------------------------------------------------------------


@pytest.mark.parametrize("together", [False, True])
def test_ids_and_probabilities(together: bool, ear: WhisperPass, decoded: dict[int, Decoding]) -> None:
    utterances = [FinalInput(read(ROOT / "data" / "an4" / recording["file"])) for recording in RECORDINGS]
    if together:
        finish(ear.transcribe_in_slices(utterances, steps=1))
    else:
        for utterance in utterances:
            finish(ear.transcribe_in_slices([utterance], steps=1))
    for utterance, recording in zip(utterances, RECORDINGS, strict=True):
        decoding = decoded[id(utterance)]
        assert decoding.ids == recording["ids"]
        np.testing.assert_allclose(decoding.log_probabilities, recording["log_probabilities"], atol=1e-3)
        assert decoding.no_speech == pytest.approx(recording["no_speech"], abs=1e-4)


def test_products_in_eight_bits_change_little(in_bytes: WhisperPass, monkeypatch: pytest.MonkeyPatch) -> None:
    found = watched(in_bytes, monkeypatch)
    utterances = [FinalInput(read(ROOT / "data" / "an4" / recording["file"])) for recording in RECORDINGS]
    together = finish(in_bytes.transcribe_in_slices(utterances, steps=1))
    decodings = [found[id(utterance)] for utterance in utterances]
    pairs = list(zip(decodings, RECORDINGS, strict=True))
    assert sum(decoding.ids == recording["ids"] for decoding, recording in pairs) >= 8
    for decoding, recording in pairs:
        assert decoding.no_speech == pytest.approx(recording["no_speech"], abs=0.05)
    alone = [finish(in_bytes.transcribe_in_slices([utterance], steps=7))[0] for utterance in utterances]
    assert together == alone, "to the last bit"


def steps(ear: WhisperPass, utterance: FinalInput) -> int:
    return sum(1 for _ in ear.transcribe_in_slices([utterance], steps=1))


def test_drafts_change_nothing_but_the_time(ear: WhisperPass) -> None:
    utterances = [FinalInput(read(ROOT / "data" / "an4" / recording["file"])) for recording in RECORDINGS[:4]]
    said = [tuple(recording["ids"]) for recording in RECORDINGS[:4]]
    drafts = [said[0], (*said[1][:2], 11, 13, *said[1]), (), (7, *said[3])]
    drafted = [replace(utterance, draft=draft) for utterance, draft in zip(utterances, drafts, strict=True)]
    alone = [finish(ear.transcribe_in_slices([utterance], steps=1))[0] for utterance in drafted]
    same = [replace(utterance, draft=ids) for utterance, ids in zip(utterances, said, strict=True)]
    for found in (alone, *(finish(ear.transcribe_in_slices(batch, steps=9)) for batch in (drafted, same))):
        assert [hypothesis.tokens for hypothesis in found] == said
        for hypothesis, recording in zip(found, RECORDINGS, strict=False):
            expected = np.mean(recording["log_probabilities"])
            assert hypothesis.mean_log_probability == pytest.approx(expected, abs=1e-3)
            assert all(word.start < word.end for word in hypothesis.words)
    assert steps(ear, same[0]) < steps(ear, utterances[0]) - len(said[0]) + 3
    assert steps(ear, drafted[3]) == steps(ear, utterances[3]) + 1, "a wrong draft costs a step"


def test_a_hotword_is_heard_behind_a_draft_too(ear: WhisperPass) -> None:
    named = FinalInput(read(ROOT / "data" / "an4" / "an406-fcaw-b.flac"), hotwords=(Hotword("Rubout"),))
    (plain,) = finish(ear.transcribe_in_slices([named], steps=1))
    (found,) = finish(ear.transcribe_in_slices([replace(named, draft=plain.tokens[:2])], steps=1))
    assert found.text == plain.text
    assert found.text.startswith("Rubout ")


def test_weights_in_eight_bits_say_what_float32_says(ear: WhisperPass) -> None:
    """Of ten recordings one differs, and that in capitals and a space."""
    differing = [recording for recording in RECORDINGS if recording["ids"] != recording["float32"]["ids"]]
    texts = [
        [b"".join(map(ear.vocabulary.token, ids)).decode() for ids in (r["ids"], r["float32"]["ids"])]
        for r in differing
    ]
    assert texts == [[" RUBOUT NIMN1", " Rub out N-I-M-N-1"]]
    for recording in RECORDINGS:
        assert recording["no_speech"] == pytest.approx(recording["float32"]["no_speech"], abs=0.02)


def test_words_times_and_confidences(ear: WhisperPass) -> None:
    samples = read(ROOT / "data" / "an4" / "an406-fcaw-b.flac")
    (found,) = finish(ear.transcribe_in_slices([FinalInput(samples)], steps=1))
    assert [word.text for word in found.words] == ["Rub", "out", "GMEF", "39"]
    starts, ends = ([getattr(word, name) for word in found.words] for name in ("start", "end"))
    np.testing.assert_allclose(starts, [0.4, 0.7, 1.3, 3.2], atol=0.12)
    assert all(start < end for start, end in zip(starts, ends, strict=True))
    assert ends == sorted(ends)
    assert ends[-1] <= len(samples) / 16000
    assert 0.05 < min(word.confidence for word in found.words) < max(word.confidence for word in found.words) <= 1
    assert -0.8 < found.mean_log_probability < 0
    assert (found.ear, found.language, found.marked, found.looped) == ("whisper-tiny-en", "en", True, False)


def test_a_loop_is_cut_and_marked_and_heard_again_where_no_other_model_hears_it(ear: WhisperPass) -> None:
    command = FinalInput(read(ROOT / "data" / "an4" / "an392-mjwl-b.flac"))  # "repeat"
    other = FinalInput(read(ROOT / "data" / "an4" / "an409-fcaw-b.flac"))
    pair = [command, other, replace(command, alone=True), replace(other, alone=True)]
    cut, plain, again, same = finish(ear.transcribe_in_slices(pair, steps=1))
    assert (cut.text, cut.looped) == ("Repeat.", True)
    assert (again.text, again.looped) == ("Repeat.", False)
    assert again.mean_log_probability > cut.mean_log_probability
    assert (plain.text, plain.looped) == (same.text, same.looped) == ("Go!", False)


def test_a_hotword_is_heard_where_it_is_said(ear: WhisperPass) -> None:
    samples = read(ROOT / "data" / "an4" / "an406-fcaw-b.flac")
    plain, named = finish(
        ear.transcribe_in_slices([FinalInput(samples), FinalInput(samples, hotwords=(Hotword("Rubout"),))], steps=1)
    )
    assert plain.text == "Rub out GMEF 39"
    assert named.text.startswith("Rubout ")


def noises() -> dict[str, Float32]:
    generator, time = np.random.default_rng(0), np.arange(3 * 16000) / 16000
    return {
        "silence": np.zeros(32000, np.float32),
        "short silence": np.zeros(8000, np.float32),
        "white noise": (0.03 * generator.standard_normal(48000)).astype(np.float32),
        "quiet noise": (0.001 * generator.standard_normal(48000)).astype(np.float32),
        "rumble": np.convolve(generator.standard_normal(48000), np.ones(200) / 200, "same").astype(np.float32),
        "hum": (0.1 * np.sin(2 * np.pi * 50 * time)).astype(np.float32),
        "chord": sum(0.1 * np.sin(2 * np.pi * f * time) for f in (220.0, 277.2, 329.6)).astype(np.float32),  # type: ignore[union-attr]
    }


def test_where_nobody_speaks_nothing_is_heard(ear: WhisperPass) -> None:
    sounds = noises()
    found = finish(ear.transcribe_in_slices([FinalInput(samples) for samples in sounds.values()], steps=1))
    for name, hypothesis in zip(sounds, found, strict=True):
        assert hypothesis.no_speech > NO_SPEECH, name
        assert hypothesis.words == (), name
