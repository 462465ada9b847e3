"""Labels against FunASR's ONNX runtime, and what is made of them."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import parastream.model.errors
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from parastream.model.directory import ModelDirectory
from parastream.model.errors import CheckpointError, ModelConfigError, ModelError
from parastream.model.punctuation import (
    CARRY_LIMIT,
    PIECE,
    Context,
    Punctuator,
    split_words,
)

ASSETS = Path(parastream.model.errors.__file__).parent / "assets"
FORMS = ("offline", "realtime")
MARKS = "，。？、,.?"
GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "data" / "punctuation_golden.json").read_text(encoding="utf-8")
)


@cache
def model(form: str) -> Punctuator:
    return Punctuator.from_directory(ModelDirectory(ASSETS / f"punc-small-{form}"))


@pytest.fixture(params=FORMS)
def punctuator(request: pytest.FixtureRequest) -> Punctuator:
    return model(request.param)


def bare(text: str) -> list[str]:
    """Words without marks and capitals."""
    return split_words(text.translate({ord(mark): " " for mark in MARKS}).lower())


# Labels: what FunASR's runtime finds. Its int8 kernels are not the same on every processor, so in long texts one label
# in a hundred may be another; those of short texts win clearly.


def assert_labels(labels: Sequence[str], expected: Sequence[str], text: str) -> None:
    differences = [index for index, pair in enumerate(zip(labels, expected, strict=True)) if pair[0] != pair[1]]
    assert len(differences) <= len(expected) // 100, f"labels {differences} of {text!r}"


@pytest.mark.parametrize("form", FORMS)
def test_labels_of_whole_texts_are_funasrs(form: str) -> None:
    for record in GOLDEN["texts"]:
        labels = [label or "_" for label in model(form).labels(split_words(record["text"]))]
        # the runtime replaces the last label: by the end of a sentence (offline) or by none (realtime)
        assert_labels(labels[:-1], record[form][:-1], record["text"])


@pytest.mark.parametrize("form", FORMS)
def test_last_comma_ends_an_endless_sentence_as_in_funasr(form: str) -> None:
    record = next(record for record in GOLDEN["texts"] if record["text"].startswith("though behind"))
    labels = model(form).labels(split_words(record["text"]))
    assert labels.index("。") == record[form].index("。")
    assert labels.index("。") > 100


def test_labels_of_running_transcripts_are_funasrs() -> None:
    for stretches in GOLDEN["calls"]:
        cache: list[str] = []
        for stretch in stretches:
            tokens = [*cache, *split_words(stretch["text"])]
            labels = [label or "_" for label in model("realtime").labels(tokens, cached=len(cache))]
            # the runtime returns the label of the last cached token too, and blanks that of the last token
            assert_labels(labels[max(0, len(cache) - 1) : -1], stretch["labels"][:-1], stretch["text"])
            cache = stretch["cache"]


def test_context_of_running_transcripts_is_funasrs() -> None:
    for stretches in GOLDEN["calls"]:
        context = Context()
        for stretch in stretches:
            _, context = model("realtime").mark_words(split_words(stretch["text"]), context, end=False)
            assert list(context.words) == stretch["cache"]


def test_offline_end_is_funasrs() -> None:
    for record in GOLDEN["texts"]:
        text = model("offline").punctuate(record["text"])
        assert (text[-1] in "？?") == (record["offline"][-1] == "？"), record["text"]


# Style


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("how are you", "How are you?"),
        ("i am fine thank you what about you", "I am fine, thank you. What about you?"),
        ("今天天气怎么样我想去公园散步你要一起去吗", "今天天气怎么样？我想去公园散步。你要一起去吗？"),
        ("苹果香蕉橘子和葡萄我都喜欢吃", "苹果、香蕉、橘子和葡萄。我都喜欢吃。"),
        ("2024年我们一共卖了300台电脑比去年多了百分之二十", "2024年我们一共卖了300台电脑，比去年多了百分之二十。"),
        # the marks are those of the sentence's language, whatever the word before them
        ("我在用python写代码你呢", "我在用 python 写代码，你呢？"),
        (
            "i live in 北京 and i work at a company called 阿里巴巴 it is very big",
            "I live in 北京 and I work at a company called 阿里巴巴. It is very big.",
        ),
        ("i work at IBM it is a big company what about you", "I work at IBM. It is a big company. What about you?"),
        ("i think i'm late", "I think I'm late."),
        ("", ""),
        (" \t\n\u3000 ", ""),
    ],
)
def test_style(text: str, expected: str) -> None:
    assert model("offline").punctuate(text) == expected


def test_capitals_and_joined_letters_do_not_change_the_marks(punctuator: Punctuator) -> None:
    text = "Hello How Are YOU i am Fine THANK you"
    assert punctuator.punctuate(text).lower() == punctuator.punctuate(text.lower()).lower()


def test_marks_of_the_text_are_not_doubled(punctuator: Punctuator) -> None:
    assert punctuator.punctuate("how are you?") == "How are you?"
    assert punctuator.punctuate("你好，你是谁？我是小明。") == "你好，你是谁？我是小明。"


# Running transcripts


def test_pause_ends_the_sentence_and_a_cut_does_not(punctuator: Punctuator) -> None:
    first, context = punctuator.extend("so today we will talk about the", Context(), end=False)
    assert first == "So today we will talk about the"
    assert context.words == ("so", "today", "we", "will", "talk", "about", "the")
    second, context = punctuator.extend("new library are you ready", context, end=True)
    assert second == "new library. Are you ready?"
    assert context == Context()
    assert punctuator.extend("ok", context, end=True)[0] == "Ok."


def test_context_changes_what_is_heard_in_the_next_stretch(punctuator: Punctuator) -> None:
    _, context = punctuator.extend("今天我想谈三件事第一", Context(), end=False)
    assert context.words, "the sentence is open"
    alone, _ = punctuator.extend("我们给孩子们买了新书", Context(), end=True)
    carried, _ = punctuator.extend("我们给孩子们买了新书", context, end=True)
    assert bare(alone) == bare(carried)
    assert carried[0] == "我"


@pytest.mark.parametrize("end", [False, True])
def test_nothing_said_keeps_the_context(punctuator: Punctuator, end: bool) -> None:
    context = Context(("so", "today"))
    assert punctuator.extend("  ", context, end=end) == ("", context)
    assert punctuator.mark_words(["", " "], context, end=end) == (["", " "], context)


def test_context_is_bounded(punctuator: Punctuator) -> None:
    context = Context()
    for _ in range(12):
        _, context = punctuator.mark_words(["zyzzyva"] * 30, context, end=False)
        assert len(context.words) <= CARRY_LIMIT
    assert context.words


def test_context_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Context().words = ("a",)  # type: ignore[misc]


class Watched:
    """Stands between a punctuator and its network and notes the lengths of its inputs."""

    def __init__(self, network: Any) -> None:
        self.network = network
        self.lengths: list[int] = []

    def __call__(self, ids: list[int], cached: int) -> Any:
        self.lengths.append(len(ids))
        return self.network(ids, cached)


@pytest.mark.parametrize("text", ["zyzzyva " * 5000, "好的我们走吧那么" * 625])
def test_long_text_costs_no_more_per_word(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    punctuator = model("offline")
    watched = Watched(punctuator._network)
    monkeypatch.setattr(punctuator, "_network", watched)
    result = punctuator.punctuate(text)
    assert bare(result) == bare(text)
    assert len(watched.lengths) == 5000 // PIECE
    assert max(watched.lengths) <= CARRY_LIMIT + PIECE


# Words are never lost, added or moved

WORD = st.one_of(
    st.sampled_from(["hello", "how", "are", "you", "i", "i'm", "GMEF", "café", "привет", "3", "2024", "😀", "50%"]),
    st.sampled_from(list("你好吗我们去北京的人是不今天")),
    st.text("abcxyz你好'-éß😀9", min_size=1, max_size=300),
)
TEXT = st.lists(WORD, max_size=40).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(FORMS), TEXT)
def test_words_of_a_text_stay(form: str, text: str) -> None:
    result = model(form).punctuate(text)
    assert bare(result) == bare(text)
    assert not result.startswith(tuple(MARKS))
    assert not result or result.endswith(("。", "？", ".", "?"))
    assert not any(left in MARKS and right in MARKS for left, right in pairwise(result)), "two marks in a row"


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(FORMS), st.lists(st.tuples(TEXT, st.booleans()), max_size=6))
def test_any_splitting_keeps_the_words(form: str, stretches: list[tuple[str, bool]]) -> None:
    context = Context()
    for text, end in stretches:
        result, context = model(form).extend(text, context, end=end)
        assert bare(result) == bare(text)
        assert not result.startswith(tuple(MARKS))
        if result:
            assert result.endswith(tuple(MARKS)) == end
        if end and result:
            assert context == Context()


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(FORMS),
    st.lists(st.one_of(WORD, st.sampled_from(["你好", "a b", "", " "])), max_size=30),
    st.booleans(),
)
def test_as_many_words_as_given(form: str, words: list[str], end: bool) -> None:
    marked, _ = model(form).mark_words(words, Context(), end=end)
    assert len(marked) == len(words)
    for word, result in zip(words, marked, strict=True):
        assert result.rstrip(MARKS).lower() == word.lower()
        assert len(result) - len(word) <= 1


# Model directories


def test_form_is_told_by_the_inputs() -> None:
    assert [model(form).form for form in FORMS] == list(FORMS)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ASSETS / "punc-small-offline", tmp_path / "punc"))


def test_funasr_layouts(directory: Path) -> None:
    (directory / "model_quant.onnx").rename(directory / "model.onnx")
    for name in ("README.md", "configuration.json"):
        (directory / name).unlink(missing_ok=True)
    assert Punctuator.from_directory(ModelDirectory(directory)).punctuate("how are you") == "How are you?"


def edit_config(directory: Path, labels: object) -> None:
    (directory / "config.yaml").write_text(yaml.safe_dump({"model_conf": {"punc_list": labels}}), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("model_quant.onnx", None, ModelConfigError, r"no model_quant\.onnx or model\.onnx here"),
        ("model_quant.onnx", b"", CheckpointError, "not an ONNX model"),
        ("model_quant.onnx", b"not an onnx file", CheckpointError, "not an ONNX model"),
        ("config.yaml", None, ModelConfigError, r"config\.yaml: a model needs this file"),
        ("config.yaml", b"a: [", ModelConfigError, "not a YAML file"),
        ("config.yaml", b"\xff\xfe\x00", ModelConfigError, "not a YAML file"),
        ("config.yaml", b"model_conf: {}", ModelConfigError, r"no model_conf\.punc_list"),
        ("config.yaml", b"just text", ModelConfigError, "must hold a mapping, not str"),
        ("tokens.json", None, ModelConfigError, r"tokens\.json: a model needs this file"),
        ("tokens.json", b"[1]", ModelConfigError, "token 0 must be a string"),
        ("jieba_usr_dict", b"", ModelConfigError, "jieba"),
    ],
)
def test_damaged_directory(
    directory: Path, name: str, content: bytes | None, error: type[ModelError], message: str
) -> None:
    path = directory / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(error, match=message) as caught:
        Punctuator.from_directory(ModelDirectory(directory))
    assert str(directory) in str(caught.value)


@pytest.mark.parametrize("labels", ["。", [], ["_", "，"], ["_", "。", "!?"], ["_", "。", 3], ["_", "。", ["，"]]])
def test_bad_label_list(directory: Path, labels: object) -> None:
    edit_config(directory, labels)
    with pytest.raises(ModelConfigError, match="punc_list must hold 。"):
        Punctuator.from_directory(ModelDirectory(directory))


def test_lists_of_other_sizes(directory: Path) -> None:
    edit_config(directory, ["<unk>", "_", "，", "。", "？"])
    with pytest.raises(CheckpointError, match=r"gives 6 labels, but punc_list in config\.yaml has 5"):
        Punctuator.from_directory(ModelDirectory(directory))
    shutil.copy(ASSETS / "punc-small-offline" / "config.yaml", directory)
    tokens = json.loads((directory / "tokens.json").read_text(encoding="utf-8"))
    (directory / "tokens.json").write_text(json.dumps([*tokens, "one more"]), encoding="utf-8")
    with pytest.raises(CheckpointError, match=f"does not run with the {len(tokens) + 1} tokens"):
        Punctuator.from_directory(ModelDirectory(directory))


def test_truncated_network(directory: Path) -> None:
    path = directory / "model_quant.onnx"
    path.write_bytes(path.read_bytes()[:1_000_000])
    with pytest.raises(CheckpointError, match="not an ONNX model"):
        Punctuator.from_directory(ModelDirectory(directory))


def test_some_other_network(directory: Path) -> None:
    spec = importlib.util.find_spec("silero_vad")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    other = Path(spec.submodule_search_locations[0]) / "data" / "silero_vad_16k_op15.onnx"
    shutil.copy(other, directory / "model_quant.onnx")
    with pytest.raises(CheckpointError, match="has the inputs input, state, sr; a CT-Transformer has"):
        Punctuator.from_directory(ModelDirectory(directory))
