"""The client for scripts without asyncio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import parastream.client.blocking
import pytest
from parastream.client import BlockingClient, ConnectionFailedError, Final, ServerError
from parastream.client.cli.composition import ModelChoice, local_server

from ..conftest import SAMPLE_TEXTS
from ..server.fakes import FakeEngine, expected_texts, serving
from .test_client import AUDIO, example_of


@contextmanager
def server_in_a_thread(engine: FakeEngine | None) -> Iterator[str]:
    """The URL of a server with a scripted engine, or with the real one."""
    loop = asyncio.new_event_loop()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.get_loop().run_forever()

    thread = threading.Thread(target=run)
    thread.start()
    context = local_server(ModelChoice()) if engine is None else serving(engine)
    server = asyncio.run_coroutine_threadsafe(context.__aenter__(), loop).result()
    try:
        yield server.url.removesuffix("/v1/stream")
    finally:
        asyncio.run_coroutine_threadsafe(context.__aexit__(None, None, None), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def test_the_documented_example(capsys: pytest.CaptureFixture[str]) -> None:
    with server_in_a_thread(None) as url:
        exec(example_of(parastream.client.blocking.__doc__, url), {"__name__": "example"})
    assert capsys.readouterr().out.splitlines() == SAMPLE_TEXTS


def test_sending_and_iterating_in_two_threads() -> None:
    engine = FakeEngine()
    with server_in_a_thread(engine) as url, BlockingClient(url) as client:

        def speak() -> None:
            for first in range(0, len(AUDIO), 5000):
                client.send(np.frombuffer(AUDIO[first : first + 5000], np.int16))
            client.stop()

        speaking = threading.Thread(target=speak)
        speaking.start()
        texts = [event.text for event in client if isinstance(event, Final)]
        speaking.join()
        assert client.ready.model == "scripted"
    assert texts == expected_texts(AUDIO)
    assert engine.streams[0].audio == AUDIO


def test_errors_come_through_and_leave_no_thread() -> None:
    threads = threading.active_count()
    with server_in_a_thread(FakeEngine()) as url:
        with pytest.raises(ServerError, match="unknown_model"), BlockingClient(url, model="other"):
            pass
        with pytest.raises(RuntimeError, match="not open"):
            BlockingClient(url).send(b"x")
    with pytest.raises(ConnectionFailedError), BlockingClient(url):
        pass
    assert threading.active_count() == threads
