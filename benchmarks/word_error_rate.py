"""Compute the word error rate of transcripts.

    ./run parastream transcribe DIR/test/*.flac --format jsonl > heard.jsonl
    ./run python benchmarks/word_error_rate.py DIR/test.jsonl heard.jsonl

The first file has a JSON object with `file` and `text` on each line, as AN4's list does; the second is what
`parastream transcribe --format jsonl` prints. Words are compared in lower case and without punctuation. Joined letters
(GMEF) count one by one.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import jiwer


def read(path: Path) -> dict[str, str]:
    """Read the normalised text of each recording, by its file name without directories."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return {Path(line["file"]).name: normalise(line["text"]) for line in map(json.loads, lines)}


def normalise(text: str) -> str:
    """Reduce a text to lower-case words without punctuation, with joined capitals as single letters."""
    words = re.sub(r"[^\w\s']", " ", text).split()
    return " ".join(" ".join(word) if re.fullmatch(r"[A-Z]{2,}", word) else word for word in words).lower()


def main() -> None:
    """Compare the two files and print the rate."""
    parser = argparse.ArgumentParser(description="Word error rate of transcripts.")
    parser.add_argument("reference", type=Path)
    parser.add_argument("heard", type=Path)
    options = parser.parse_args()
    reference, heard = read(options.reference), read(options.heard)
    missing = sorted(set(reference) - set(heard))
    if missing:
        parser.error(f"{len(missing)} recordings are missing, such as {missing[0]}")
    names = sorted(reference)
    words = jiwer.process_words([reference[name] for name in names], [heard[name] for name in names])
    print(
        f"{len(names)} recordings: word error rate {100 * words.wer:.2f} %"
        f" ({words.substitutions} wrong, {words.deletions} lost, {words.insertions} added)"
    )


if __name__ == "__main__":
    main()
