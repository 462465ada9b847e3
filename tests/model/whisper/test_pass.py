"""Whisper as a final pass, with random weights: batches, slices, languages, limits."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from parastream.model import FinalPass, dense, load_final_pass
from parastream.model.errors import AudioError
from parastream.model.final_pass import FinalInput, Hypothesis
from parastream.model.hotwords import Hotword
from parastream.model.lanes import finish
from parastream.model.whisper import embedding, network
from parastream.model.whisper.speech import WhisperPass

from . import forms


@pytest.fixture(scope="module", params=[("mlx", "float32"), ("graphs", "float32"), ("graphs", "int8")], ids=" ".join)
def ear(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> WhisperPass:
    described = forms.config()
    directory = forms.write(tmp_path_factory.mktemp("models") / "random", described, forms.weights(described))
    compute, dtype = request.param
    return WhisperPass.from_directory(directory, compute=compute, dtype=dtype)


@pytest.fixture(scope="module")
def utterances() -> list[FinalInput]:
    """Of lengths that do not fill a frame, a second or a batch evenly."""
    return [FinalInput(samples) for samples in forms.noise([2.0, 0.31, 5.123, 1.0007, 0.02])]


def alike(one: Hypothesis, other: Hypothesis) -> bool:
    """The same words at the same times, and probabilities up to rounding."""
    numbers = [
        [[h.no_speech, h.mean_log_probability, *(w.confidence for w in h.words)] for h in (one, other)],
        [[time for word in h.words for time in (word.start, word.end)] for h in (one, other)],
    ]
    return (one.text, one.language, one.looped) == (other.text, other.language, other.looped) and all(
        np.allclose(a, b, atol=1e-3) for a, b in numbers
    )


def test_a_batch_gives_each_utterance_what_it_gets_alone(ear: WhisperPass, utterances: list[FinalInput]) -> None:
    together = finish(ear.transcribe_in_slices(utterances, steps=1))
    assert sum(len(hypothesis.words) for hypothesis in together) >= len(utterances)
    for utterance, found in zip(utterances, together, strict=True):
        (alone,) = finish(ear.transcribe_in_slices([utterance], steps=1))
        assert alike(found, alone)
        assert found == alone or ear.computing.compute == "mlx", "graphs give the same bits"
    backwards = finish(ear.transcribe_in_slices(utterances[::-1], steps=3))
    assert all(alike(found, other) for found, other in zip(together, backwards[::-1], strict=True))


def test_other_passes_may_go_between_its_slices(ear: FinalPass, utterances: list[FinalInput]) -> None:
    expected = [finish(ear.transcribe_in_slices([utterance], steps=1000))[0] for utterance in utterances]
    running = {i: ear.transcribe_in_slices([utterance], steps=1) for i, utterance in enumerate(utterances)}
    found: dict[int, Hypothesis] = {}
    slices = 0
    while running:
        for i, generator in list(running.items()):
            try:
                next(generator)
                slices += 1
            except StopIteration as end:
                found[i] = end.value[0]
                del running[i]
    assert slices > len(utterances) * 7  # each has convolutions, two layers, a norm, a prompt and tokens
    assert all(alike(found[i], one) for i, one in enumerate(expected))


def test_slices_have_the_steps_that_were_asked_for(ear: WhisperPass, utterances: list[FinalInput]) -> None:
    one, five, all_of_them = (
        sum(1 for _ in ear.transcribe_in_slices(utterances[:1], steps=steps)) for steps in (1, 5, 10_000)
    )
    assert one > 5
    assert five == one // 5
    assert all_of_them == 0
    of_the_encoder = {"mlx": 6, "graphs": 3}[ear.computing.compute]
    assert ear.steps(10) == of_the_encoder + 3 + 40


@pytest.fixture
def quantised(tmp_path: Path) -> Path:
    """A directory of such a model in 8 bits."""
    described = forms.dimensions(forms.config()) | {"quantization": {"group_size": 64, "bits": 8}}
    packed = forms.quantized(forms.as_openai(forms.weights(forms.config())), 8)
    return forms.write(tmp_path / "random", described, packed, "weights.safetensors")


def test_a_gpus_ways_of_computing_give_the_same(
    utterances: list[FinalInput], quantised: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Quantised weights as they are, whole attention, logits and their maximum in MLX; but on this machine."""
    plain = WhisperPass.from_directory(quantised, compute="mlx")
    expected = finish(plain.transcribe_in_slices(utterances, steps=1))
    for module in (dense, embedding, network):
        monkeypatch.setattr(module, "on_cpu", lambda: False)
    ear = WhisperPass.from_directory(quantised, compute="mlx", dtype="float32")
    assert isinstance(ear._network, network.Whisper)
    assert ear._network.decoder.embed_tokens.weight.dtype == mx.uint32
    hotword = FinalInput(utterances[0].samples, hotwords=(Hotword("zebra"),))
    found = finish(ear.transcribe_in_slices([*utterances, hotword], steps=1))
    assert all(alike(one, other) for one, other in zip(found, expected, strict=False))


def test_graphs_take_quantised_weights_on_a_machine_with_a_gpu_too(
    utterances: list[FinalInput], quantised: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found() -> list[Hypothesis]:
        ear = WhisperPass.from_directory(quantised, compute="graphs", dtype="float32")
        return finish(ear.transcribe_in_slices(utterances, steps=1))

    expected = found()
    for module in (dense, embedding, network):
        monkeypatch.setattr(module, "on_cpu", lambda: False)
    assert found() == expected


def test_the_language_is_the_one_that_was_named_or_else_found(ear: FinalPass, utterances: list[FinalInput]) -> None:
    (found,) = finish(ear.transcribe_in_slices(utterances[:1], steps=1))
    assert found.language in ear.capabilities.languages
    other = "de" if found.language != "de" else "fr"
    named = [FinalInput(utterances[0].samples, language) for language in (found.language, other)]
    same, different = finish(ear.transcribe_in_slices(named, steps=1))
    assert alike(same, found)
    assert different.language == other
    assert different.mean_log_probability != same.mean_log_probability


def test_hotwords_change_one_utterance_of_a_batch(ear: FinalPass, utterances: list[FinalInput]) -> None:
    plain = utterances[0]
    (expected,) = finish(ear.transcribe_in_slices([plain], steps=1))
    said = expected.words[0].text
    # Whatever it says, it says the rest of a hotword once its first token has been said.
    hotword = FinalInput(plain.samples, hotwords=tuple(Hotword(f"{said} {name}") for name in ("zebra", "Zanzibar")) * 2)
    found = finish(ear.transcribe_in_slices([plain, hotword, plain], steps=1))
    assert alike(found[0], expected)
    assert alike(found[2], expected)
    assert ear.capabilities.takes_hotwords


def test_what_it_can_do(ear: FinalPass) -> None:
    can = ear.capabilities
    assert (len(can.languages), can.writes_marks, can.gives_word_times, can.longest_seconds) == (99, True, True, 29.0)
    assert ear.name == "random"


def test_what_it_cannot_do_is_said(ear: FinalPass) -> None:
    with pytest.raises(AudioError, match=r"random hears at most 29 s, not 29\.5"):
        next(ear.transcribe_in_slices([FinalInput(forms.noise([29.5])[0])], steps=1))
    with pytest.raises(AudioError, match="random does not know the language 'tlh'; it knows en, zh"):
        next(ear.transcribe_in_slices([FinalInput(forms.noise([1])[0], "tlh")], steps=1))


def test_the_longest_utterance_is_heard(ear: FinalPass) -> None:
    (found,) = finish(ear.transcribe_in_slices([FinalInput(forms.noise([29.0])[0])], steps=1))
    assert found.words


def test_nothing_was_said_in_an_utterance_without_samples(ear: FinalPass, utterances: list[FinalInput]) -> None:
    empty = FinalInput(np.zeros(0, np.float32))
    found = finish(ear.transcribe_in_slices([empty, utterances[0]], steps=1))
    assert (found[0].words, found[0].no_speech) == ((), 1.0)
    assert found[1].words
    assert finish(ear.transcribe_in_slices([], steps=1)) == []


def test_models_of_128_bins_and_100_languages(tmp_path: Path, utterances: list[FinalInput]) -> None:
    described = forms.config(num_mel_bins=128, vocab_size=51866)
    ear = load_final_pass(forms.write(tmp_path / "large", described, forms.weights(described)))
    ear.warm_up()
    assert ear.capabilities.languages[-1] == "yue"
    (found,) = finish(ear.transcribe_in_slices([FinalInput(utterances[0].samples, "yue")], steps=1))
    assert found.language == "yue"
    assert found.words
