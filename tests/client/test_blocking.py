"""The client for scripts without asyncio."""

from __future__ import annotations

import asyncio
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import parastream.client.blocking
import pytest
from parastream.client import BlockingClient, ConnectionFailedError, Final, ServerError
from parastream.client.cli.composition import ModelChoice, local_server

from tests.client.test_client import AUDIO, example_of
from tests.conftest import SAMPLE_TEXTS
from tests.server.fakes import UTTERANCE, FakeEngine, expected_texts, serving
from tests.waiting import wait_until


@contextmanager
def server_in_a_thread(engine: FakeEngine | None, **settings: Any) -> Iterator[str]:
    """The URL of a server with a scripted engine, or with the real one."""
    loop = asyncio.new_event_loop()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.get_loop().run_forever()

    thread = threading.Thread(target=run)
    thread.start()
    context = local_server(ModelChoice(model="asr-small-en")) if engine is None else serving(engine, **settings)
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
    threads = set(threading.enumerate())
    with server_in_a_thread(FakeEngine()) as url:
        with pytest.raises(ServerError, match="unknown_model"), BlockingClient(url, model="other"):
            pass
        with pytest.raises(RuntimeError, match="not open"):
            BlockingClient(url).send(b"x")
    with pytest.raises(ConnectionFailedError), BlockingClient(url):
        pass
    assert set(threading.enumerate()) <= threads


# --- Ctrl-C ------------------------------------------------------------------------------------


@contextmanager
def interrupted(waits_in: str, once: Callable[[], object] = lambda: True) -> Iterator[None]:
    """Press Ctrl-C as soon as this thread waits in the client's method of this name; expect what that raises.

    `once`: and this is so.
    """
    thread = threading.current_thread().ident
    assert thread is not None

    def waits() -> bool:
        frame = sys._current_frames()[thread]
        names = set()
        while frame.f_back is not None:
            names.add(frame.f_code.co_name)
            frame = frame.f_back
        return {waits_in, "_call", "wait"} <= names and frame is not None

    def press() -> None:
        wait_until(lambda: once() and waits())
        signal.pthread_kill(thread, signal.SIGINT)

    pressing = threading.Thread(target=press)
    pressing.start()
    with pytest.raises(KeyboardInterrupt):
        yield
    pressing.join()


def test_an_interrupted_iteration_loses_no_event() -> None:
    with server_in_a_thread(FakeEngine()) as url, BlockingClient(url) as client:
        with interrupted("__next__"):
            next(client)
        client.send(AUDIO)
        client.stop()
        assert [event.text for event in client if isinstance(event, Final)] == expected_texts(AUDIO)


def test_an_interrupted_send_says_whether_it_has_taken_the_audio() -> None:
    engine = FakeEngine()
    with (
        server_in_a_thread(engine, acknowledge_interval=1000.0) as url,
        BlockingClient(url, buffer_bytes=100) as client,
    ):
        client.send(AUDIO[:100])
        with interrupted("send"):
            client.send(AUDIO[100:])
        assert client.accepted == 100
        client.stop()
        assert [event.text for event in client if isinstance(event, Final)] == expected_texts(AUDIO[:100])
    assert engine.streams[0].audio == AUDIO[:100]


def test_an_interrupted_attempt_to_connect_leaves_no_thread() -> None:
    threads = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = BlockingClient(f"ws://127.0.0.1:{silent.getsockname()[1]}", open_timeout=1000.0)
        with interrupted("__enter__", once=lambda: select.select([silent], [], [], 0)[0]):
            client.__enter__()
        connection, _ = silent.accept()
        with connection:
            while connection.recv(4096):  # up to the end: the connection is closed
                pass
    assert set(threading.enumerate()) <= threads


def test_an_interrupted_block_drops_the_session() -> None:
    engine = FakeEngine()
    threads = set(threading.enumerate())
    with server_in_a_thread(engine, resume_window=1000.0) as url:
        with interrupted("__next__"), BlockingClient(url) as client:
            next(client)
        wait_until(lambda: engine.streams[0].cancelled)
    assert set(threading.enumerate()) <= threads


def test_after_closing_what_came_before_can_be_read_and_nothing_else_done() -> None:
    with server_in_a_thread(FakeEngine()) as url:
        with BlockingClient(url, partials=False) as client:
            client.send(AUDIO[:UTTERANCE])
            first = next(client)
            wait_until(lambda: len(client._client._session._events) == 2)
        assert [type(event).__name__ for event in [first, *client]] == ["SpeechStarted", "SpeechEnded", "Final"]
        with pytest.raises(RuntimeError, match="the session has ended"):
            client.send(b"x")
        with pytest.raises(RuntimeError, match="entered already"):
            client.__enter__()
        client.close()


def test_a_thread_that_sends_is_told_that_another_has_closed() -> None:
    failures: list[Exception] = []
    with server_in_a_thread(FakeEngine(), acknowledge_interval=1000.0) as url:
        with BlockingClient(url, buffer_bytes=100) as client:
            client.send(AUDIO[:100])

            def speak() -> None:
                try:
                    client.send(AUDIO[100:])
                except RuntimeError as error:
                    failures.append(error)

            speaking = threading.Thread(target=speak)
            speaking.start()
        speaking.join()
    assert len(failures) == 1
