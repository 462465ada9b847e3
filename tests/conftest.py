"""The embedded models and a recording of real speech, loaded once; what holds for every test."""

from __future__ import annotations

import gc
import logging
import math
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import parastream.model
import pytest
import soundfile
from hypothesis import settings
from numpy.typing import NDArray
from parastream.client import connect
from parastream.model import SpeechModel, catalogue, processor, silero_weights
from parastream.streaming import Engine, EngineConfig, Models, Observer, Vad

from tests.waiting import LIMIT

# How long an example takes depends on the load of the machine, and says nothing about what is tested. The examples are
# the same ones in each run, so that a test that passed fails only after a change. To look for others:
#   ./run pytest --hypothesis-profile explore
settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile("steady")

assert "mlx.core" not in sys.modules, "whatever imports MLX here makes every test 20 times slower"
parastream.model.prepare_process()
# A shell that starts tests in the background has them ignore Ctrl-C, which some of them press.
signal.signal(signal.SIGINT, signal.default_int_handler)

MOST_WORKERS = 4
"""Each holds models of its own, and the longest module takes as long however many there are."""
SAMPLE = Path(__file__).parents[1] / "client" / "assets" / "sample.flac"
SAMPLE_TEXTS = ["Enter one seventy six.", "Rubout GMEF three nine.", "Ten, twenty seven sixty two."]


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Run all tests in as many processes as pay, and chosen ones in this process, which is ready at once."""
    chosen = config.args_source is pytest.Config.ArgsSource.ARGS
    return 0 if chosen else min(os.cpu_count() or 1, MOST_WORKERS)


def pytest_collection_finish() -> None:
    """Hide what collection has made from the garbage collector, which would look through it again and again."""
    collect_and_freeze()


def collect_and_freeze() -> None:
    """Take what is there now for what stays."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def clients_are_patient() -> Iterator[None]:
    """Let servers take longer to answer than users would wait: a busy machine may stand still for seconds."""
    assert connect.__kwdefaults__ is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(connect.__kwdefaults__, "open_timeout", LIMIT)
        yield


@pytest.fixture(autouse=True)
def asyncio_loses_no_error() -> Iterator[None]:
    """Fail the test when a task or callback ended with an exception that nobody has asked for."""
    logger, lost = logging.getLogger("asyncio"), _Errors()
    logger.addHandler(lost)
    yield
    logger.removeHandler(lost)
    assert lost.messages == []


_NOT_LOST = "Error on transport creation for incoming connection"
"""A client broke off the TLS handshake; asyncio tells of it in its debug mode only."""


class _Errors(logging.Handler):
    """Keeps the messages of errors."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if not record.getMessage().startswith(_NOT_LOST):
            self.messages.append(self.format(record))


def load_models() -> Models:
    """What the server loads by default, in the precision of FunASR, with whose tokens the tests compare, on a GPU too.

    Call it on the thread that will use them.
    """
    speech, punctuation = parastream.model.load(dtype="float32"), parastream.model.load_punctuation()
    search = parastream.model.load_search(speech)
    return Models(speech, Vad(silero_weights.load()), None, punctuation, search=search)


@contextmanager
def running_engine(
    config: EngineConfig = EngineConfig(target_utilisation=math.inf),
    *observers: Observer,
    replaceable: bool = False,
    load: Callable[[], Models] = load_models,
) -> Iterator[Engine]:
    """A warm engine, on the default models if left out, which admits whoever comes, on however slow a machine."""
    engine = Engine(load, config, observers=observers, replaceable=replaceable)
    engine.start()
    engine.wait_ready(60)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def models() -> Models:
    """The default models, for the thread that runs the tests."""
    return load_models()


@pytest.fixture(scope="session")
def speech(models: Models) -> SpeechModel:
    """The embedded speech model."""
    return models.speech


@pytest.fixture(scope="session")
def sample() -> NDArray[np.int16]:
    """Three sentences by three speakers: 12 seconds, 16 kHz."""
    samples, rate = soundfile.read(SAMPLE, dtype="int16")
    assert rate == 16000
    return np.asarray(samples, np.int16)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost that is its own authority, and its key."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """A new one, like `certificate`."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    cert, key = directory / "cert.pem", directory / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command, *names, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


@pytest.fixture
def cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Have Linux describe another CPU: the machine (`x86_64`, …) and the instruction sets that it lists."""

    def describe(machine: str, flags: str) -> None:
        file = tmp_path / "cpuinfo"
        file.write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
        monkeypatch.setattr(processor, "_CPUINFO", file)
        monkeypatch.setattr(platform, "machine", lambda: machine)
        processor.sums_bytes_exactly.cache_clear()

    yield describe
    processor.sums_bytes_exactly.cache_clear()


@pytest.fixture(scope="session")
def unquantised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the embedded speech model as it is before it is quantised, in float16."""
    from parastream.model import checkpoint  # imports MLX

    directory = tmp_path_factory.mktemp("unquantised") / "asr-small-en"
    checkpoint.convert(catalogue.resolve("asr-small-en"), directory)
    return directory
