"""`parastream models`: list, fetch, convert, quantise and check models."""

from __future__ import annotations

import json
import time
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from parastream.client.sources import read
from parastream.media.decoding import SourceError
from parastream.model import SpeechModel, catalogue, checkpoint, load, load_final_pass, load_punctuation
from parastream.model.computing import ComputeType
from parastream.model.config import Precision
from parastream.model.directory import ModelDirectory
from parastream.model.errors import ModelError
from parastream.model.language import loading as language_model
from parastream.model.loading import is_final_only
from parastream.model.quantization import Quantization
from parastream.model.whisper import checkpoint as whisper
from parastream.model.whisper.files import is_whisper
from parastream.streaming import SessionConfig, Transcriber
from rapidfuzz.distance import Levenshtein
from rich import box
from rich.console import Console
from rich.table import Table

_COMPARED: tuple[ComputeType, ...] = ("float32", "int8")
LARGEST_ERROR = 0.05
"""Share of characters that may differ from the known texts."""
GOLDEN = "golden.json"
_MOST_LANGUAGES = 8


def print_models() -> None:
    """Print one line for each model that has a name."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=200)
    table = Table(box=box.SIMPLE, pad_edge=False)
    cards = list(catalogue.list_models())
    # The name has to be typed: only what describes a model gives way in a narrow terminal, and nothing is left out.
    table.add_column("name", no_wrap=True, min_width=max((len(card.name) for card in cards), default=0))
    for heading in ("kind", "size", "here", "languages", "what it is, and how well it does", "licence", "from"):
        table.add_column(heading, justify="right" if heading == "size" else "left", overflow="fold")
    for card in cards:
        size, here = f"{card.size_mb:.0f} MB", "yes" if card.cached else "no"
        about = f"{card.description}\n{card.figures}" if card.figures else card.description
        table.add_row(
            card.name, card.kind, size, here, spoken_languages(card.languages), about, card.licence, card.source
        )
    console.print(table)


def spoken_languages(codes: Sequence[str]) -> str:
    """Name languages by their codes, unless there are too many of them."""
    return ", ".join(codes) if len(codes) <= _MOST_LANGUAGES else f"{len(codes)} languages"


def download(name: str) -> None:
    """Download a model and print its directory.

    Raises:
        HubError: the model cannot be downloaded.
    """
    print(catalogue.resolve(name))


def convert(source: str, destination: Path, dtype: Precision, *, offline: bool) -> None:
    """Write a model as safetensors.

    Raises:
        ModelError: the model cannot be read, or its new directory not be written.
    """
    directory = _of_speech(source, offline=offline)
    if is_whisper(directory):
        raise ModelError(f"{source} is a Whisper, which loads as it is: `models convert` is for FunASR's checkpoints")
    checkpoint.convert(directory, destination, dtype)
    print(destination)


def _of_speech(source: str, *, offline: bool) -> Path:
    """Return the directory of a model that hears speech; refuse one that does something else."""
    directory = catalogue.resolve(source, offline=offline)
    _refuse_language_model(source, directory)
    if ModelDirectory(directory).punctuation_file is not None:
        raise ModelError(f"{source} is a punctuation model; a speech model is needed")
    return directory


def _refuse_language_model(name: str, directory: Path) -> None:
    if (directory / language_model.FILE).is_file():
        raise ModelError(f"{name} is a language model, for `--lm`; a speech model is needed")


def quantize(source: str, destination: Path, bits: int, group_size: int, dtype: Precision, *, offline: bool) -> None:
    """Write a model with quantised linear layers, and print how much smaller it is.

    Raises:
        ModelError: the model cannot be read or quantised, or its new directory not be written.
    """
    directory = _of_speech(source, offline=offline)
    quantization = Quantization(bits, group_size)
    if is_whisper(directory):
        whisper.quantize(directory, destination, quantization, dtype)
        files = [whisper.weights_file(d) for d in (directory, destination)]
    else:
        checkpoint.quantize(directory, destination, quantization, dtype)
        files = [ModelDirectory(d).weights_file for d in (directory, destination)]
    before, after = (file.stat().st_size for file in files)
    print(f"{destination}: {after / 1e6:.1f} MB instead of {before / 1e6:.1f}")


def check(name: str, recordings: Path | None, compared: Sequence[Path] = (), *, offline: bool) -> int:
    """Load a model, run it, describe it, and return the exit status: 1 if it misses known texts.

    Args:
        name: Name or directory of the model.
        recordings: Directory of recordings with known texts.
        compared: Recordings on which int8 is compared with float32.
        offline: Never download a model.

    Raises:
        ModelError: the model cannot be loaded.
        SourceError: the recordings or their texts cannot be read.
    """
    directory = catalogue.resolve(name, offline=offline)
    _refuse_language_model(name, directory)
    print(f"directory   {directory}")
    if is_final_only(directory):
        if recordings is not None:
            raise ModelError(f"{name} transcribes whole utterances only: recordings cannot be compared with texts")
        if compared and not is_whisper(directory):
            raise ModelError(f"{name} is not computed in 8 bits: there is nothing to compare recordings with")
        _check_final_only(directory)
        if compared:
            ears = (load_final_pass(directory, compute="graphs", dtype=dtype) for dtype in _COMPARED)
            compare_types({"whole": [Transcriber(None, punctuation=None, final=ear) for ear in ears]}, compared)
        return 0
    if ModelDirectory(directory).punctuation_file is not None:
        if recordings is not None or compared:
            raise ModelError(f"{name} is a punctuation model: recordings cannot be compared")
        return _check_punctuation(directory)
    model = load(directory)
    _describe(model)
    began = time.perf_counter()
    model.warm_up()
    print(f"warm-up     {time.perf_counter() - began:.2f} s")
    if compared:
        speech = [load(directory, compute="graphs", dtype=dtype) for dtype in _COMPARED]
        configs = {"whole": SessionConfig(partials=False)}
        if model.config.streams:
            configs["streaming"] = SessionConfig(final_pass=False)
        forms = {
            form: [Transcriber(one, punctuation=None, config=config) for one in speech]
            for form, config in configs.items()
        }
        compare_types(forms, compared)
    return 0 if recordings is None else _compare(model, recordings)


def _check_punctuation(directory: Path) -> int:
    punctuator = load_punctuation(directory)
    print(f"form        {punctuator.form}")
    for text in ("how are you i am fine thank you", "你好吗我很好谢谢"):
        print(f"example     {punctuator.punctuate(text)}")
    return 0


def _check_final_only(directory: Path) -> None:
    ear = load_final_pass(directory)
    languages = ear.capabilities.languages
    print(f"languages   {len(languages)}: {', '.join(languages)}")
    began = time.perf_counter()
    ear.warm_up()
    print(f"warm-up     {time.perf_counter() - began:.2f} s")


def _describe(model: SpeechModel) -> None:
    encoder, decoder = model.config.encoder, model.config.decoder
    print(f"parameters  {model.parameters / 1e6:.2f} million")
    print(f"stored      {model.quantization or 'not quantised'}")
    print(f"computed    by {model.computing}")
    print(f"encoder     {encoder}")
    print(f"decoder     {decoder}")
    print(f"tokens      {len(model.tokenizer)}")
    print(f"streams     {'yes' if model.config.streams else 'no'}")
    print(f"hotwords    {'by itself, in whole utterances (SeACo)' if model.config.seaco else 'by the search'}")
    print(f"word times  {'from a head of their own (BiCif)' if model.config.predictor.timestamps else 'from CIF'}")


def _compare(model: SpeechModel, recordings: Path) -> int:
    transcriber = Transcriber(model, punctuation=None)
    wrong = total = 0
    for file, text in _known_texts(recordings):
        samples, sample_rate = read(file)
        recognised, known = _bare(transcriber.transcribe(samples, sample_rate).text), _bare(text)
        distance = Levenshtein.distance(recognised, known)
        wrong += distance
        total += len(known)
        print(f"recognised  {file.name}: {recognised}")
        if distance:
            print(f"known       {file.name}: {known} ({distance} of {len(known)} characters differ)")
    share = wrong / total
    verdict = "passed" if share <= LARGEST_ERROR else "failed"
    print(f"{verdict}      {wrong} of {total} characters differ: {share:.1%}, allowed are {LARGEST_ERROR:.0%}")
    return 0 if share <= LARGEST_ERROR else 1


def compare_types(forms: Mapping[str, Sequence[Transcriber]], recordings: Sequence[Path]) -> None:
    """Print in which recordings a model in int8 hears something else than in float32, and how much.

    Args:
        forms: Under the name of each form two transcribers, in float32 and in int8.
        recordings: What they hear.

    Raises:
        SourceError: A recording cannot be read.
    """
    for form, transcribers in forms.items():
        equal = differing = total = 0
        for file in recordings:
            audio = read(file)
            expected, found = (transcriber.transcribe(*audio).text for transcriber in transcribers)
            distance = Levenshtein.distance(found, expected)
            equal += found == expected
            differing += distance
            total += len(expected)
            if distance:
                print(f"float32     {file.name}, {form}: {expected}")
                print(f"int8        {file.name}, {form}: {found} ({distance} of {len(expected)} characters differ)")
        print(
            f"compared    {form}: int8 hears what float32 hears in {equal} of {len(recordings)} recordings;"
            f" {differing} of {total} characters differ ({differing / max(1, total):.2%})"
        )


def _known_texts(recordings: Path) -> list[tuple[Path, str]]:
    """Read `golden.json`, which has under each model's name the text that it makes of each file.

    Raises:
        SourceError: the file cannot be read or holds no texts.
    """
    path = recordings / GOLDEN
    try:
        golden = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: {error}") from error
    sections = golden.values() if isinstance(golden, dict) else []
    texts = [
        (recordings / file, text)
        for section in sections
        if isinstance(section, dict)
        for file, text in section.items()
        if isinstance(text, str)
    ]
    if not any(_bare(text) for _, text in texts):
        raise SourceError(f'{path}: needs texts, as {{"MODEL": {{"FILE": "TEXT", …}}}}')
    return texts


def _bare(text: str) -> str:
    """Reduce a text to its letters and digits, since spacing and punctuation are a matter of taste."""
    return "".join(c for c in text.casefold() if unicodedata.category(c)[0] in "LN")
