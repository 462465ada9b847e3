"""Punctuation by CT-Transformer (https://arxiv.org/abs/2003.01309) through onnxruntime.

The model has two forms, told apart by the inputs of their ONNX file. The labels are those of FunASR's ONNX runtime
(`funasr_onnx.CT_Transformer` and `CT_Transformer_VadRealtime`), token for token. The realtime form therefore gets its
VAD mask in both mask inputs. In PyTorch all layers but the last see only the past, in the published runtimes they see
everything, and the marks differ. With the embedded model those of the runtimes are better.

The text made of the labels differs from FunASR's on purpose:

- words are looked up in lower case, which is how the vocabularies spell them;
- spaces are those of `text.join` (FunASR puts one between ASCII words only);
- a mark that belongs to the last word of an earlier stretch is not set in front of the next one;
- an utterance that a pause ended closes with 。 or ？ in the realtime form too;
- a sentence begins with a capital; unless it is mainly Chinese, its marks are ASCII and "I" is a capital too;
- marks inside a word ("caf|é") are not set, nor beside a mark that the text has already;
- 200 tokens without an end or a comma are cut all the same; FunASR's input then grows without end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from parastream.model.directory import CONFIG, JIEBA_DICT, PUNCTUATION_WEIGHTS, TOKENS, ModelDirectory
from parastream.model.errors import CheckpointError, ModelConfigError
from parastream.model.onnx import import_onnxruntime
from parastream.model.text import is_unspaced, join, units

PIECE: Final = 20
"""Number of tokens that are added to the network's input at a time."""
CARRY_LIMIT: Final = 200
"""Most tokens of an unfinished sentence that the network sees again with the next piece."""

_MARK_OF_LABEL = {"<unk>": "", "_": "", ",": "，", "，": "，", "。": "。", "?": "？", "？": "？", "、": "、"}
_SENTENCE_ENDS = ("。", "？")
_FIRST_END = 2  # a sentence has at least three tokens: FunASR looks for no end before that
_OWN_ENDS = ("。", "？", "！", ".", "?", "!")
_ASCII_MARK = str.maketrans("，。？、", ",.?,")
_ANY_MARK = tuple("，。？、！；：…,.?!;:")
_TOKEN = re.compile(r"[\x00-\x7f]+|[^\x00-\x7f]")
_FIRST_PERSON = re.compile(r"^i(?='|$)")


@dataclass(frozen=True, slots=True)
class Context:
    """What the next stretch of a running transcript depends on; `Context()` at the start."""

    words: tuple[str, ...] = ()
    """Words of the unfinished sentence, without marks; at most `CARRY_LIMIT` tokens."""


def split_words(text: str) -> list[str]:
    """Cut `text` into words: each Chinese character is one, anything else goes from space to space."""
    return [word for part in text.split() for word in units(part)]


class Punctuator:
    """Sets punctuation marks in recognised text.

    It holds no transcript's state: `Context` values carry that. Use it on one thread at a time.
    """

    def __init__(self, network: _Network, tokens: Sequence[str], marks: Sequence[str]) -> None:
        self._network = network
        self._marks = tuple(marks)
        self._ids = {token: index for index, token in enumerate(tokens)}
        self._unknown = len(tokens) - 1

    @classmethod
    def from_directory(cls, directory: ModelDirectory) -> Punctuator:
        """Load a FunASR punctuation model: model_quant.onnx or model.onnx, config.yaml and tokens.json.

        Raises:
            ModelConfigError: A file is missing, or config.yaml or tokens.json cannot be used, or the model needs jieba.
            CheckpointError: The ONNX file is damaged, is no CT-Transformer, or has other sizes than the lists.
        """
        path = directory.punctuation_file
        if path is None:
            raise ModelConfigError(
                f"{directory.path}: no {' or '.join(PUNCTUATION_WEIGHTS)} here, which a punctuation model needs"
                " (FunASR makes one of a model.pt: AutoModel(model=...).export(type='onnx', quantize=True))"
            )
        if directory.has(JIEBA_DICT):
            raise ModelConfigError(
                f"{directory.path}: its tokens are Chinese words as jieba cuts them ({JIEBA_DICT}), which is not"
                " supported; models whose tokens are Chinese characters are, such as ct-punc"
            )
        tokens = directory.tokens
        marks = _read_marks(directory)
        network = _Network(path)
        try:
            classes = network.logits([0, len(tokens) - 1], cached=0).shape[-1]
        except Exception as error:  # onnxruntime's errors have no common base of their own
            raise CheckpointError(
                f"{path}: does not run with the {len(tokens)} tokens of {TOKENS} ({error})"
            ) from error
        if classes != len(marks):
            raise CheckpointError(f"{path}: gives {classes} labels, but punc_list in {CONFIG} has {len(marks)}")
        return cls(network, tokens, marks)

    @property
    def form(self) -> Literal["offline", "realtime"]:
        """`offline` models see a whole text; `realtime` ones were trained on running speech."""
        return self._network.form

    def punctuate(self, text: str) -> str:
        """Return a whole text with its marks, the last of which ends a sentence; nothing for a text without words."""
        return self.extend(text, Context(), end=True)[0]

    def extend(self, text: str, context: Context, *, end: bool) -> tuple[str, Context]:
        """Punctuate the next stretch of a running transcript.

        Args:
            text: The stretch, without marks.
            context: What the previous stretch returned.
            end: A pause ended the utterance: the stretch closes with a mark that ends a sentence, and the
                context is empty again. Otherwise its last word gets no mark, and the open sentence is carried.

        Returns:
            The stretch with its marks, and the context for the next one.
        """
        marked, context = self.mark_words(split_words(text), context, end=end)
        return join(marked), context

    def mark_words(self, words: Sequence[str], context: Context, *, end: bool) -> tuple[list[str], Context]:
        """Do the same as `extend` for separate words: return as many words as given, with marks and capitals.

        `text.join` makes text of them.
        """
        before = len(context.words)
        every = [*context.words, *words]
        tokens = [_tokens(word) for word in every]
        stops = list(accumulate(map(len, tokens)))  # for each word, one past its last token
        spoken = [index for index in range(before, len(every)) if tokens[index]]
        if not spoken:
            return list(words), context
        labels = self.labels([token for word in tokens for token in word], cached=stops[before - 1] if before else 0)
        marks = [labels[stop - 1] if word else "" for word, stop in zip(tokens, stops, strict=True)]
        last = spoken[-1]
        if end:
            after = Context()
            marks[last] = "？" if marks[last] == "？" else "。"
        else:
            after = Context(_unfinished(every, stops, labels))
            marks[last] = ""
        for index, (word, follower) in enumerate(pairwise([*every, ""])):
            if word.endswith(_ANY_MARK) or follower.startswith(_ANY_MARK):
                marks[index] = ""
        return _style(every, marks)[before:], after

    def labels(self, tokens: Sequence[str], *, cached: int = 0) -> list[str]:
        """Find the mark after each token (full-width, "" for none), as FunASR's runtime does.

        Args:
            tokens: Runs of ASCII characters, and single other characters.
            cached: Number of tokens that belong to earlier stretches (realtime form).
        """
        ids = [self._ids.get(token.lower(), self._unknown) for token in tokens]
        labels: list[str] = []
        for stop in range(PIECE, len(ids) + PIECE, PIECE):
            found = [self._marks[label] for label in self._network(ids[len(labels) : stop], cached)]
            labels += found if stop >= len(ids) else _settled(found)
        return labels


class _Network:
    """The ONNX network, from token ids to label ids."""

    def __init__(self, path: Path) -> None:
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # a few milliseconds of work: more threads only take cores from MLX
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False  # inputs of ever new lengths would make it grow
        options.log_severity_level = 4  # errors are raised
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's errors have no common base of their own
            raise CheckpointError(f"{path}: not an ONNX model that onnxruntime can load ({error})") from error
        self._inputs = [value.name for value in self._session.get_inputs()]
        if len(self._inputs) not in (2, 4):
            raise CheckpointError(
                f"{path}: has the inputs {', '.join(self._inputs)}; a CT-Transformer has inputs and"
                " text_lengths, and in its realtime form vad_masks and sub_masks too"
            )

    @property
    def form(self) -> Literal["offline", "realtime"]:
        return "offline" if len(self._inputs) == 2 else "realtime"

    def logits(self, ids: Sequence[int], cached: int) -> NDArray[np.float32]:
        """Compute the scores (tokens, labels) of `ids`, the first `cached` of which are from earlier stretches."""
        length = len(ids)
        values: list[NDArray[Any]] = [np.array([ids], np.int32), np.array([length], np.int32)]
        if self.form == "realtime":
            mask = np.ones((1, 1, length, length), np.float32)
            if 0 < cached < length:
                # Tokens of earlier stretches, all but the last, do not see the new ones.
                mask[..., : cached - 1, cached:] = 0
            values += [mask, mask]
        (logits,) = self._session.run(None, dict(zip(self._inputs, values, strict=True)))
        scores: NDArray[np.float32] = logits[0]
        return scores

    def __call__(self, ids: Sequence[int], cached: int) -> NDArray[np.intp]:
        """Find the label of each token, (tokens,)."""
        best: NDArray[np.intp] = self.logits(ids, cached).argmax(axis=-1)
        return best


def _read_marks(directory: ModelDirectory) -> list[str]:
    """Read the mark of each label from `model_conf.punc_list`."""
    path = directory.path / CONFIG
    try:
        labels = directory.config["model_conf"]["punc_list"]
    except (KeyError, TypeError):
        raise ModelConfigError(f"{path}: has no model_conf.punc_list") from None
    if not isinstance(labels, list) or "。" not in labels or not set(map(str, labels)) <= _MARK_OF_LABEL.keys():
        raise ModelConfigError(
            f"{path}: punc_list must hold 。 and may hold {' '.join(_MARK_OF_LABEL)}, got {labels!r}"
        )
    return [_MARK_OF_LABEL[label] for label in labels]


def _tokens(word: str) -> list[str]:
    return [token for part in word.split() for token in _TOKEN.findall(part)]


def _last(labels: Sequence[str], wanted: Sequence[str], first: int = _FIRST_END) -> int | None:
    """Find the index of the last of the `wanted` marks, except at the last token, which has no right context."""
    return next((index for index in range(len(labels) - 2, first - 1, -1) if labels[index] in wanted), None)


def _settled(labels: list[str]) -> list[str]:
    """Return the labels that further tokens cannot change: those up to the last end of a sentence.

    In a sentence longer than `CARRY_LIMIT` tokens the last comma becomes its end, as in FunASR. Without a comma,
    FunASR's sentence goes on growing; here all but the latest piece is settled then.
    """
    end = _last(labels, _SENTENCE_ENDS)
    if end is not None:
        return labels[: end + 1]
    if len(labels) <= CARRY_LIMIT:
        return []
    comma = _last(labels, ("，",), max(_FIRST_END, len(labels) - 1 - CARRY_LIMIT))
    if comma is not None:
        return [*labels[:comma], "。"]
    return labels[:-PIECE]


def _unfinished(words: Sequence[str], stops: Sequence[int], labels: Sequence[str]) -> tuple[str, ...]:
    """Return the words after the last end of a sentence, at most `CARRY_LIMIT` tokens of them."""
    end = _last(labels, _SENTENCE_ENDS)
    first = max(0 if end is None else end + 1, len(labels) - CARRY_LIMIT)
    starts = [0, *stops[:-1]]
    return tuple(word for word, start, stop in zip(words, starts, stops, strict=True) if first <= start < stop)


def _style(words: Sequence[str], marks: Sequence[str]) -> list[str]:
    """Attach the marks to the words, each sentence in the style of its language."""
    styled: list[str] = []
    start = 0
    for index, mark in enumerate(marks):
        if mark in _SENTENCE_ENDS or words[index].endswith(_OWN_ENDS) or index == len(words) - 1:
            styled += _style_sentence(words[start : index + 1], marks[start : index + 1])
            start = index + 1
    return styled


def _style_sentence(words: Sequence[str], marks: Sequence[str]) -> list[str]:
    """Use full-width marks in a Chinese sentence, ASCII marks and "I" in any other; begin it with a capital."""
    if not _mainly_chinese(words):
        marks = [mark.translate(_ASCII_MARK) for mark in marks]
        words = [_FIRST_PERSON.sub("I", word) for word in words]
    begin = next((index for index, word in enumerate(words) if word.strip()), 0)
    return [
        (_capitalised(word) if index == begin else word) + mark
        for index, (word, mark) in enumerate(zip(words, marks, strict=True))
    ]


def _mainly_chinese(words: Sequence[str]) -> bool:
    """Say whether there are at least as many Chinese characters as other words."""
    chinese = [sum(map(is_unspaced, word)) for word in words]
    others = sum(1 for word, count in zip(words, chinese, strict=True) if word.strip() and not count)
    return sum(chinese) > 0 and sum(chinese) >= others


def _capitalised(word: str) -> str:
    return word[:1].upper() + word[1:] if word[:1].isascii() else word
