"""SenseVoice as a `FinalPass`: network, features and vocabulary."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import mlx.core as mx
import numpy as np
from parastream.model import checkpoint
from parastream.model.computing import Computing, in_mlx, with_mlx
from parastream.model.config import Precision
from parastream.model.directory import ModelDirectory
from parastream.model.errors import AudioError
from parastream.model.final_pass import SAMPLE_RATE, Capabilities, FinalInput, Hypothesis
from parastream.model.frontend import Frontend
from parastream.model.hugging_face import name_of
from parastream.model.lanes import Lanes
from parastream.model.languages import SENSEVOICE
from parastream.model.sensevoice.config import SenseVoiceConfig
from parastream.model.sensevoice.network import Heard, SenseVoice, prompt
from parastream.model.sensevoice.vocabulary import EMOTIONS, SOUNDS, Vocabulary
from parastream.model.sensevoice.words import runs, timed_words

_SHORTEST = 400
"""Samples of the shortest utterance: one frame of features."""
_LONGEST = 30.0
"""Seconds. It has no limit of its own, but loses the ends of longer utterances."""
_WARM_UP_SECONDS = 2


class SenseVoicePass:
    """Transcribes whole utterances and says in which language; its words have marks and capitals of its own.

    MLX arrays belong to the thread that made them: load, warm up and use it on one thread.
    """

    def __init__(self, name: str, network: SenseVoice, frontend: Frontend, vocabulary: Vocabulary) -> None:
        """Put the parts of a loaded and packed model together."""
        self.name = name
        self.capabilities = Capabilities(
            languages=SENSEVOICE,
            writes_marks=True,
            takes_hotwords=False,
            gives_word_times=True,
            longest_seconds=_LONGEST,
            best_seconds=_LONGEST,
        )
        self.frontend = frontend
        self.vocabulary = vocabulary
        self._network = network
        self._lanes = Lanes()
        self._tags = vocabulary.language_ids, vocabulary.emotion_ids, vocabulary.sound_ids

    @classmethod
    def from_directory(cls, directory: ModelDirectory, *, dtype: Precision | None = None) -> SenseVoicePass:
        """Load a FunASR model directory.

        Args:
            directory: With `config.yaml`, `am.mvn`, a sentencepiece model and weights.
            dtype: Type in which the network computes. Default: bfloat16 on a GPU; a CPU computes in float32 only.

        Raises:
            ModelConfigError: The directory's configuration cannot be used, or `dtype` is not for this device.
            CheckpointError: The weights are damaged or do not fit the configuration.
        """
        computed = in_mlx(dtype, on_gpu="bfloat16")
        vocabulary = Vocabulary.from_directory(directory)
        config = SenseVoiceConfig.from_directory(directory, len(vocabulary))
        checkpoint.check_size(config, directory)
        network = SenseVoice(config)
        checkpoint.load_weights(network, directory, getattr(mx, computed))
        network.pack()
        mx.eval(network.parameters())
        return cls(name_of(directory.path), network, Frontend(config.frontend, *directory.cmvn), vocabulary)

    @property
    def computing(self) -> Computing:
        """How the network is computed."""
        return with_mlx(self._network.encoder.dtype)

    def warm_up(self) -> None:
        """Run once, so that the first client does not wait for kernels and buffers."""
        silence = np.zeros(_WARM_UP_SECONDS * SAMPLE_RATE, np.float32)
        for _ in self.transcribe_in_slices([FinalInput(silence)], steps=self._network.steps):
            pass

    def steps(self, seconds: float) -> int:
        """Return the layers and the parts of the head, whose number does not depend on the length."""
        return self._network.steps

    def transcribe_in_slices(
        self, utterances: Sequence[FinalInput], *, steps: int
    ) -> Generator[None, None, list[Hypothesis]]:
        """See `FinalPass.transcribe_in_slices`; a step is an encoder layer, or a part of the head.

        Raises:
            AudioError: An utterance is longer than 30 s, or its language is not among those of the model.
        """
        for utterance in utterances:
            self._check(utterance)
        results = [Hypothesis(self.name, (), marked=utterance.marks, no_speech=1.0) for utterance in utterances]
        present = (i for i, utterance in enumerate(utterances) if len(utterance.samples) >= _SHORTEST)
        order = sorted(present, key=lambda i: len(utterances[i].samples))
        parts = [[order[k] for k in part] for part in self._lanes.share(len(order))]
        works = [
            self._network.transcribe(
                [self.frontend(utterances[i].samples) for i in part],
                [prompt(utterances[i].language, marks=utterances[i].marks) for i in part],
                self._tags,
            )
            for part in parts
        ]
        found = yield from self._lanes.in_slices(works, steps=steps)
        for part, several in zip(parts, found, strict=True):
            for i, heard in zip(part, several, strict=True):
                results[i] = self._hypothesis(utterances[i], heard)
        return results

    def _check(self, utterance: FinalInput) -> None:
        if utterance.seconds > _LONGEST:
            raise AudioError(f"{self.name} hears at most {_LONGEST:.0f} s, not {utterance.seconds:.1f}")
        if utterance.language not in (None, *SENSEVOICE):
            allowed = ", ".join(SENSEVOICE)
            raise AudioError(f"{self.name} does not know the language {utterance.language!r}; it knows {allowed}")

    def _hypothesis(self, utterance: FinalInput, heard: Heard) -> Hypothesis:
        language, emotion, sound = heard.tags
        silent = language == len(SENSEVOICE)
        words = timed_words(runs(heard.ids, heard.confidences), self.vocabulary.text, len(heard.ids), utterance.seconds)
        return Hypothesis(
            ear=self.name,
            words=words,
            marked=utterance.marks,
            language=utterance.language or (None if silent else SENSEVOICE[language]),
            no_speech=heard.tag_confidences[0] if silent else 0.0,
            emotion=EMOTIONS[emotion] if emotion < len(EMOTIONS) else None,
            sound=SOUNDS[sound] if sound < len(SOUNDS) else None,
        )
