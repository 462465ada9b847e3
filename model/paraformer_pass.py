"""Paraformer's full-context pass as a `FinalPass`."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace

from parastream.model.computing import Computing
from parastream.model.config import ROW_SECONDS
from parastream.model.errors import AudioError
from parastream.model.final_pass import Capabilities, FinalInput, Hypothesis, TimedWord
from parastream.model.hotword_terms import Terms
from parastream.model.hotwords import Hotwords
from parastream.model.search.search import WordSearch
from parastream.model.search.terms import TermFinder
from parastream.model.speech import SpeechModel
from parastream.model.timestamps import token_times, upsampled_token_times
from parastream.model.tokenizer import TokenWord
from parastream.model.tokens import Tokens


class ParaformerPass:
    """Transcribes whole utterances with full context; its words have no marks."""

    def __init__(self, speech: SpeechModel, search: WordSearch | None = None) -> None:
        """Take a model, and what finds its words: one without a language model if left out."""
        self._speech = speech
        self._search = search or WordSearch(speech.tokenizer)
        self._terms = None
        if speech.config.seaco is not None:
            self._terms = TermFinder(speech.tokenizer, self._search.lexicon)
        self.capabilities = Capabilities(
            languages=speech.languages,
            writes_marks=False,
            takes_hotwords=True,
            gives_word_times=True,
            longest_seconds=None,
        )

    @property
    def name(self) -> str:
        """Name of the model."""
        return self._speech.name

    @property
    def computing(self) -> Computing:
        """How the network is computed."""
        return self._speech.computing

    def warm_up(self) -> None:
        """Run each form of the model once."""
        self._speech.warm_up()

    def steps(self, seconds: float) -> int:
        """Return the number of encoder layers, which does not depend on the length."""
        return self._speech.config.encoder.num_blocks

    def transcribe_in_slices(
        self, utterances: Sequence[FinalInput], *, steps: int
    ) -> Generator[None, None, list[Hypothesis]]:
        """See `FinalPass.transcribe_in_slices`; a step is an encoder layer.

        Raises:
            AudioError: An utterance's language is not among those of the model.
        """
        for utterance in utterances:
            if utterance.language not in (None, *self.capabilities.languages):
                allowed = ", ".join(self.capabilities.languages)
                raise AudioError(f"{self.name} does not know the language {utterance.language!r}; it knows {allowed}")
        features = self._speech.frontend.wholes(
            [each.samples for each in utterances], [each.rows for each in utterances]
        )
        divided = [self._divided(utterance.hotwords) for utterance in utterances]
        found = yield from self._speech.network.transcribe_in_slices(
            features,
            layers=steps,
            wanted=[self._search.wanted(others) for _, others in divided],
            terms=[terms for terms, _ in divided],
        )
        hypotheses: list[Hypothesis] = []
        for utterance, (_, others), best in zip(utterances, divided, found, strict=True):
            if hypotheses and best.lattice is not None:
                yield  # a search over a long utterance takes some 20 ms
            tokens = replace(self._search.whole(best, others), upsampled=best.upsampled)
            words = timed_words(self._search.words(tokens.ids.tolist(), utterance.hotwords), tokens, utterance.seconds)
            language = utterance.language or self._speech.language
            calibration = self._speech.calibration
            hypotheses.append(Hypothesis(self.name, words, marked=False, language=language, calibration=calibration))
        return hypotheses

    def _divided(self, hotwords: Hotwords) -> tuple[Terms | None, Hotwords]:
        """Return what the network listens for by itself, and what the search has to look for."""
        return (None, hotwords) if self._terms is None else self._terms.split(hotwords)


def timed_words(words: Sequence[TokenWord], tokens: Tokens, seconds: float) -> tuple[TimedWord, ...]:
    """Return the words of some tokens of an utterance that lasts so many seconds, with times."""
    if tokens.upsampled is not None:
        starts, ends = upsampled_token_times(tokens.rows, tokens.upsampled)
    else:
        starts, ends = token_times(tokens.rows, max(1, round(seconds / ROW_SECONDS)))
    return tuple(
        TimedWord(
            word.text,
            min(float(starts[word.first]), seconds),
            min(float(ends[word.stop - 1]), seconds),
            float(tokens.confidences[word.first : word.stop].min()),
            word.kept,
        )
        for word in words
    )
