"""Whisper as a `FinalPass`: network, features and vocabulary.

The encoder hears an utterance and a second of silence behind it, not 30 seconds as it was trained. What it would have
made of the rest is known: silence, which is encoded once. The decoder sees every 16th frame of that, which counts 16
times. Without this tail it does not find the end of a short utterance, and repeats itself; with it, short utterances
have about the word errors of a full 30 seconds, at the cost of their own length.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray
from parastream.model.computing import Compute, ComputeType, Computing, choose
from parastream.model.errors import AudioError
from parastream.model.final_pass import SAMPLE_RATE, Capabilities, FinalInput, Hypothesis, TimedWord
from parastream.model.graphs.builder import Arithmetic
from parastream.model.hotwords import Hotwords
from parastream.model.hugging_face import name_of
from parastream.model.whisper import checkpoint
from parastream.model.whisper.alignment import token_starts
from parastream.model.whisper.bias import HotwordBias
from parastream.model.whisper.config import AUDIO_CONTEXT, WhisperConfig
from parastream.model.whisper.decoding import Decoding, decode, most_tokens
from parastream.model.whisper.log_mel import log_mel
from parastream.model.whisper.protocols import Encoded, Network, Rows, Work
from parastream.model.whisper.vocabulary import Vocabulary
from parastream.model.whisper.words import timed_words

FRAME = 320
"""Samples of an encoder frame: 20 ms."""
_MARGIN = SAMPLE_RATE
"""Samples of silence that the encoder hears behind an utterance. With less, the decoder repeats itself."""
_LONGEST = AUDIO_CONTEXT * FRAME - _MARGIN
_BEST = 15.0
"""Seconds. A decoder's cost grows faster than its utterance, and so do the losses where it goes astray."""
_EVERY = 16
"""Frames of the silent tail that are seen as one."""
_BEHIND = 5
"""Frames behind an utterance's end to which its last word may be aligned."""
_TOKENS_PER_SECOND = 4
"""Of usual speech."""
_WARM_UP_SECONDS = 2


class WhisperPass:
    """Transcribes whole utterances; its words have marks and capitals of its own.

    MLX arrays belong to the thread that made them: load, warm up and use it on one thread.
    """

    def __init__(
        self,
        name: str,
        network: Network,
        vocabulary: Vocabulary,
        computing: Computing,
        silence: NDArray[np.floating] | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            name: Name of the model.
            network: With all weights, and packed.
            vocabulary: Of the same model.
            computing: How the network is computed.
            silence: What the encoder makes of 30 s of it, (1500, size). Default: it is encoded now.
        """
        self.name = name
        self.computing = computing
        self.vocabulary = vocabulary
        self._network = network
        self._silence = network.encoder.encode_silence() if silence is None else network.encoder.as_rows(silence)
        self._hotwords = lru_cache(maxsize=64)(self._bias)
        self.capabilities = Capabilities(
            languages=vocabulary.languages,
            writes_marks=True,
            takes_hotwords=True,
            gives_word_times=True,
            longest_seconds=_LONGEST / SAMPLE_RATE,
            best_seconds=_BEST,
        )

    @classmethod
    def from_directory(
        cls, directory: Path, *, compute: Compute | None = None, dtype: ComputeType | None = None
    ) -> WhisperPass:
        """Load a directory of any form that `whisper.checkpoint` knows.

        Args:
            directory: Of Hugging Face's, mlx-community's or our own form.
            compute: See `parastream.model.load_final_pass`.
            dtype: Type in which the network computes. Default: float16 on a GPU, as the published weights are; for
                graphs as `computing.choose` says.

        Raises:
            ModelConfigError: The directory's configuration cannot be used, or not computed as asked for.
            CheckpointError: The weights are damaged or do not fit the configuration.
        """
        measured = WhisperConfig.from_directory(directory).measured_in_bytes
        chosen = choose(compute, dtype, on_gpu="float16", measured_in_bytes=measured)
        network: Network
        if chosen.compute == "graphs":
            from parastream.model.whisper.graphs import GraphWhisper

            arithmetic: Arithmetic = "int8" if chosen.dtype == "int8" else "float32"
            network = GraphWhisper(checkpoint.load_network(directory), arithmetic)
        else:
            network = checkpoint.load_network(directory, getattr(mx, chosen.dtype))
            network.pack()
            mx.eval(network.parameters())
        vocabulary = Vocabulary.from_directory(directory, network.config.vocabulary)
        silence = checkpoint.read_silence(directory, network.config)
        return cls(name_of(directory), network, vocabulary, chosen, silence)

    def warm_up(self) -> None:
        """Run once, so that the first client does not wait for kernels and buffers."""
        noise = np.random.default_rng(0).standard_normal(_WARM_UP_SECONDS * SAMPLE_RATE).astype(np.float32)
        for _ in self.transcribe_in_slices([FinalInput(0.1 * noise)], steps=1):
            pass

    def steps(self, seconds: float) -> int:
        """Return the steps of the encoder, and the tokens of usual speech with those around them."""
        return self._network.encoder.steps + 3 + int(_TOKENS_PER_SECOND * seconds)

    def transcribe_in_slices(
        self, utterances: Sequence[FinalInput], *, steps: int
    ) -> Generator[None, None, list[Hypothesis]]:
        """See `FinalPass.transcribe_in_slices`; a step is half an encoder layer of an utterance, or a token of a batch.

        Raises:
            AudioError: An utterance is longer than 29 s, or its language is not among those of the model.
        """
        for utterance in utterances:
            self._check(utterance)
        # Side by side in lanes, each with a share of the long ones.
        present = (i for i, utterance in enumerate(utterances) if len(utterance.samples))
        order = sorted(present, key=lambda i: len(utterances[i].samples))
        lanes = min(len(order), len(self._network.lanes))
        parts = [order[lane::lanes] for lane in range(lanes)]
        works = [self._transcribe([utterances[i] for i in part]) for part in parts]
        found = yield from self._network.lanes.in_slices(works, steps=steps)
        results = [Hypothesis(self.name, (), marked=True, no_speech=1.0) for _ in utterances]
        for part, hypotheses in zip(parts, found, strict=True):
            for i, hypothesis in zip(part, hypotheses, strict=True):
                results[i] = hypothesis
        return results

    def _check(self, utterance: FinalInput) -> None:
        if len(utterance.samples) > _LONGEST:
            raise AudioError(f"{self.name} hears at most {_LONGEST / SAMPLE_RATE:.0f} s, not {utterance.seconds:.1f}")
        if utterance.language not in (None, *self.vocabulary.languages):
            allowed = ", ".join(self.vocabulary.languages)
            raise AudioError(f"{self.name} does not know the language {utterance.language!r}; it knows {allowed}")

    def _transcribe(self, utterances: Sequence[FinalInput]) -> Work[list[Hypothesis]]:
        decodings = yield from self._decode(utterances)
        again = [i for i, decoding in enumerate(decodings) if decoding.repeated and utterances[i].alone]
        if again:
            retried = yield from self._decode([utterances[i] for i in again], whole=True)
            for i, decoding in zip(again, retried, strict=True):
                decodings[i] = decodings[i] if decoding.repeated else decoding
        return [self._hypothesis(utterance, d) for utterance, d in zip(utterances, decodings, strict=True)]

    def _decode(self, utterances: Sequence[FinalInput], *, whole: bool = False) -> Work[list[Decoding]]:
        """Encode utterances one by one and decode them together; `whole`: as 30 seconds, without a silent tail."""
        encoded: list[Encoded] = []
        for utterance in utterances:
            length = AUDIO_CONTEXT * FRAME if whole else round((len(utterance.samples) + _MARGIN) / FRAME) * FRAME
            rows = None
            for rows in self._encode(utterance.samples, length):
                yield rows
            assert rows is not None
            encoded.append(self._with_tail(rows))
        state = yield from self._network.decoder.begin(encoded)
        decodings = [self._begin(utterance) for utterance in utterances]
        yield from decode(self._network.decoder, self.vocabulary, state, decodings)
        return decodings

    def _encode(self, samples: NDArray[np.float32], length: int) -> Iterator[Rows]:
        """Encode samples, filled up with zeros to `length`, step by step."""
        return self._network.encoder.in_steps(log_mel(samples, length, self._network.config.mels))

    def _with_tail(self, rows: Rows) -> Encoded:
        """Put the silence behind that fills up 30 seconds."""
        length = len(rows)
        tail = self._silence[length + _EVERY // 2 :: _EVERY]
        each = (AUDIO_CONTEXT - length) / max(1, len(tail))
        counts = np.concatenate([np.ones(length), np.full(len(tail), each)])
        return Encoded((rows, tail), np.log(counts).astype(np.float32))

    def _begin(self, utterance: FinalInput) -> Decoding:
        return Decoding(
            frames=len(utterance.samples) // FRAME + _BEHIND,
            limit=most_tokens(utterance.seconds, self._network.config.text_context),
            language=(utterance.language or "") if self.vocabulary.multilingual else "en",
            bias=self._hotwords(utterance.hotwords) if utterance.hotwords else None,
            draft=utterance.draft,
        )

    def _bias(self, hotwords: Hotwords) -> HotwordBias:
        return HotwordBias((self.vocabulary.encode(f" {hotword.term}"), hotword.weight) for hotword in hotwords)

    def _hypothesis(self, utterance: FinalInput, decoding: Decoding) -> Hypothesis:
        kept = len(decoding.ids) - decoding.repeated
        words: tuple[TimedWord, ...] = ()
        if kept:
            words = timed_words(
                [self.vocabulary.token(i) for i in decoding.ids[:kept]],
                np.exp(decoding.log_probabilities).tolist(),
                token_starts(np.stack(decoding.scores)),
                utterance.seconds,
            )
        log_probabilities = decoding.log_probabilities
        return Hypothesis(
            ear=self.name,
            words=words,
            marked=True,
            language=decoding.language,
            no_speech=decoding.no_speech,
            looped=decoding.repeated > 0,
            mean_log_probability=sum(log_probabilities) / len(log_probabilities) if log_probabilities else 0.0,
            tokens=tuple(decoding.ids[:kept]),
            calibration=self._network.config.calibration,
        )
