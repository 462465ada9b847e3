"""`parastream lm train`, and the options of `transcribe` and `serve` that choose language models and hotwords."""

from __future__ import annotations

import gzip
import io
import lzma
from pathlib import Path

import pytest
from parastream.model.language.files import load_own

from .command import SAID, SAMPLE, TRANSCRIBE, Run, Served, words

TEXT = "Enter seven. Rubout GMEF!\nThe sea, the sea.\n"


def test_train_on_text_in_several_files(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text(TEXT, "utf-8-sig")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"by the shore\n"))
    (tmp_path / "c.txt.xz").write_bytes(lzma.compress(b"quite another text\n"))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"zebras\n")))
    files = [tmp_path / name for name in ("a.txt", "b.txt.gz", "c.txt.xz")]
    result = run("lm", "train", *files, "-", "-o", tmp_path / "mine.lm", "--order", 5)
    assert (result.status, result.out) == (0, "")
    assert "mine.lm: " in result.err
    assert "n-grams of up to 5 of 20 characters" in result.err
    model = load_own(tmp_path / "mine.lm")
    assert model.order == 5
    for text in ("the sea ", "another ", "zebras "):
        values, _ = model.advance([model.start], [text])
        assert values.mean() > -1.5


@pytest.mark.parametrize(
    ("name", "content", "output", "message"),
    [
        ("a.txt", b"fine\nM\xfcller\n", "mine.lm", "a.txt, line 2: not UTF-8"),
        ("a.txt.gz", b"no gzip at all", "mine.lm", "a.txt.gz: damaged"),
        ("a.txt.xz", lzma.compress(b"text\n" * 99)[:40], "mine.lm", "a.txt.xz: damaged"),
        ("a.txt", b"...\n", "mine.lm", "no words to learn from"),
        ("a.txt", b"text\n", "mine.bin", "the name of a language model ends with .lm"),
        ("absent.txt", None, "mine.lm", "absent.txt"),
    ],
)
def test_what_cannot_be_trained_on(
    run: Run, tmp_path: Path, name: str, content: bytes | None, output: str, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    result = run("lm", "train", tmp_path / name, "-o", tmp_path / output)
    assert result.status == 1
    assert message in result.err
    assert not (tmp_path / output).exists()


@pytest.mark.parametrize("option", [("--order", 1), ("--order", 13), ("--largest", 0)])
def test_sizes_that_make_no_sense(run: Run, tmp_path: Path, option: tuple[str, int]) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    result = run("lm", "train", tmp_path / "text.txt", "-o", tmp_path / "mine.lm", *option)
    assert result.status == 1
    assert f"{option[0]} is {option[1]}; allowed" in result.err


def test_transcribe_with_hotwords_and_a_language_model(run: Run, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    assert run("lm", "train", tmp_path / "text.txt", "-o", tmp_path / "mine.lm").status == 0
    (tmp_path / "words.txt").write_text("RubOut 2\n76 1 | seventy six\n")
    options = (
        "--lm",
        tmp_path / "mine.lm",
        "--lm-share",
        0.5,
        "--lm-weight",
        0.2,
        "--hotwords",
        tmp_path / "words.txt",
    )
    result = run(*TRANSCRIBE, SAMPLE, "--no-punctuation", *options)
    assert result.out.strip() == "enter one 76 RubOut GMEF three nine ten twenty seven sixty two"


def test_hotwords_go_to_a_server(run: Run, served: Served, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("RubOut 2\n76 1 | seventy six\n")
    result = run("transcribe", SAMPLE, "--server", served.url, "--no-punctuation", "--hotwords", tmp_path / "words.txt")
    assert result.out.strip() == "enter one 76 RubOut GMEF three nine ten twenty seven sixty two"


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (("--lm", "absent.lm"), 1, "cannot read the language model absent.lm"),
        (("--lm", "none", "--lm-weight", "0"), 1, "allowed are numbers above 0"),
        (("--hotwords", "absent.txt"), 1, "cannot read the hotwords in absent.txt"),
        (("--server", "ws://127.0.0.1:1", "--lm", "none"), 2, "the server chooses it"),
    ],
)
def test_wrong_choices(run: Run, options: tuple[str, ...], status: int, message: str) -> None:
    result = run("transcribe", SAMPLE, "--model", "asr-small-en", *options)
    assert result.status == status
    assert message in " ".join(result.err.split())


def test_a_server_needs_a_list_that_can_be_read(run: Run, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("iPhone 42\n")
    result = run("serve", "--port", "0", "--hotwords", tmp_path / "words.txt")
    assert result.status == 1
    assert "words.txt: line 1: the weight of the hotword 'iPhone' is 42" in result.err
    result = run("serve", "--port", "0", "--lm-share", "2")
    assert result.status == 1
    assert "lm_share is 2.0; allowed are numbers above 0, up to 1" in result.err


def test_without_a_language_model_the_best_tokens_count(run: Run) -> None:
    result = run(*TRANSCRIBE, SAMPLE, "--lm", "none")
    assert words(result.out) == " ".join(SAID)
