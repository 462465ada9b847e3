"""Which of two ears is right: the rule between Whisper and Paraformer; and what to believe of Whisper alone.

Whisper is far better at free speech, Paraformer at spelled letters, digits and commands, and it never loops. Neither
agreement between them nor the share of letters and digits improves on Whisper's mean log-probability together with
Paraformer's confidence. The numbers were tuned on read speech, accented speech, spelled words and digit strings.
"""

from __future__ import annotations

from dataclasses import replace

from parastream.model.final_pass import Hypothesis

NO_SPEECH = 0.72
"""No-speech probability above which an utterance has no words. With the silent tail, 45 sounds without speech have at
least 0.79, and 568 recordings of speech at most 0.68 (whisper-tiny-en)."""
_PERHAPS_NO_SPEECH = 0.35
_UNSURE = -1.0
"""Mean log-probability below which a text is an invention if the no-speech probability is above that. Of 144 pieces of
noise `NO_SPEECH` finds 129, and these two find 13 more. Of 350 recordings of speech two have such values, and in those
Whisper is wrong about nearly every word (whisper-tiny-en)."""
_CONFIDENCE_FACTOR = 0.75
_OFFSET = -1.05
"""Where Paraformer is not sure either, Whisper's is the better of two bad texts, so only a very low log-probability
speaks against it. Both numbers were chosen by AN4 and accented speech, with Paraformer's best tokens and with its beam
search. LibriSpeech test-other has fewer wrong words than with a factor of 0.5 in both; its figures were seen beside the
others, so it is no proof."""
_UNHEARD = -0.85
"""The least log-probability where Paraformer hears no words: Whisper's may be inventions."""


def least_log_probability(paraformer: Hypothesis) -> float:
    """Return the mean log-probability from which on Whisper is believed, beside what Paraformer has heard."""
    return _CONFIDENCE_FACTOR * paraformer.confidence + _OFFSET if paraformer.words else _UNHEARD


def believe(whisper: Hypothesis) -> Hypothesis:
    """Judge what Whisper makes of an utterance that no other model hears.

    Returns:
        The hypothesis; without its words, where nobody speaks.
    """
    silent = _is_invented(whisper) or whisper.no_speech > NO_SPEECH
    return replace(whisper, words=()) if silent else whisper


def _is_invented(whisper: Hypothesis) -> bool:
    return whisper.no_speech > _PERHAPS_NO_SPEECH and whisper.mean_log_probability < _UNSURE


def choose(whisper: Hypothesis, paraformer: Hypothesis) -> Hypothesis:
    """Choose between what the two made of the same utterance.

    Args:
        whisper: The better ear for free speech, with its no-speech probability, loops and log-probability.
        paraformer: The fallback, with its raw acoustic confidences.

    Returns:
        One of the two; or Whisper's without its words, where it is sure that nobody speaks.
    """
    if whisper.no_speech > NO_SPEECH:
        return replace(whisper, words=())
    if whisper.looped or _is_invented(whisper):
        return paraformer
    return paraformer if whisper.mean_log_probability < least_log_probability(paraformer) else whisper
