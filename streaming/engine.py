"""The engine: one thread that owns MLX and serves all sessions, in batches.

Order of work: VAD frames (so that endpoints are known), then streaming windows, then one slice of a full-context
pass, then marks. A window therefore waits for at most one slice of a final pass and one batch of windows.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from parastream.model.errors import CapacityError, EngineError, ParastreamError

from .events import Event
from .runner import Models, Runner
from .session import FinalWork, PunctuationWork, Session, SessionConfig, VadWork, WindowWork, Work

logger = logging.getLogger(__name__)

_DONE = object()


@dataclass(frozen=True)
class EngineConfig:
    """How the engine schedules."""

    max_sessions: int = 64
    """Sessions at a time; more are refused."""
    max_vad_frames: int = 20
    """VAD frames (of 32 ms) of each session in a row, so that a client that sends a whole file at once holds up
    nobody's windows."""
    max_windows: int = 32
    """Streaming windows in one batch."""
    max_final_rows: int = 1000
    """Rows (of 60 ms, padding included) in one batch of full-context passes."""
    slice_layers: int = 10
    """Encoder layers of a full-context pass that run before windows get their turn."""


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counters since the start, and what is going on now."""

    sessions: int = 0
    """Open sessions."""
    backlog: float = 0.0
    """Seconds of audio that have come in but not been looked at, of the session that waits longest."""
    windows: int = 0
    window_batches: int = 0
    finals: int = 0
    final_batches: int = 0
    busy: float = 0.0
    """Seconds spent computing."""


@dataclass(slots=True)
class _Counters:
    windows: int = 0
    window_batches: int = 0
    finals: int = 0
    final_batches: int = 0
    busy: float = 0.0


class Stream:
    """One session's thread-safe handle."""

    def __init__(self, engine: Engine, session: Session, on_events: Callable[[list[Event]], None]) -> None:
        self._engine = engine
        self.session = session
        self._on_events = on_events
        self._inbox: deque[bytes] = deque()
        self._inbox_bytes = 0
        self._ending = False
        self._ended = False  # the session has been told
        self._cancelled = False
        self._lag = 0.0

    def send(self, data: bytes) -> None:
        """Hands over audio bytes; from here on they are not lost. Ignored after `end`.

        Raises:
            EngineError: the engine has stopped.
        """
        with self._engine.changed:
            self._engine.check_running()
            if not self._ending:
                self._inbox.append(data)
                self._inbox_bytes += len(data)
                self._engine.changed.notify()

    def end(self) -> None:
        """The input ends: `Final` events and `SessionEnded` follow."""
        with self._engine.changed:
            self._ending = True
            self._engine.changed.notify()

    def cancel(self) -> None:
        """Drops the session; no more events follow."""
        with self._engine.changed:
            self._cancelled = True
            self._engine.changed.notify()

    @property
    def backlog(self) -> float:
        """Seconds of audio handed over but not yet looked at."""
        audio = self.session.config.format
        return self._lag + self._inbox_bytes / (audio.frame_bytes * audio.rate)

    # The rest is for the engine's thread.

    @property
    def waiting(self) -> bool:
        """Whether the client has sent something that was not collected yet."""
        return bool(self._inbox) or self._cancelled or (self._ending and not self._ended)

    def collect(self) -> None:
        """Moves what has come in into the session."""
        with self._engine.changed:
            received, self._inbox = self._inbox, deque()
            self._inbox_bytes = 0
            ending, self._ended = self._ending and not self._ended, self._ending
        for data in received:
            self.session.receive_audio(data)
        if ending:
            self.session.receive_end()

    def publish(self) -> bool:
        """Tells what has happened; returns whether the session is over."""
        events = self.session.events()
        self._lag = self.session.backlog
        if events and not self._cancelled:
            try:
                self._on_events(events)
            except Exception:
                logger.exception("a listener failed; its session is dropped")
                self._cancelled = True
        return self._cancelled or self.session.ended


@dataclass(slots=True)
class _Pending:
    """Work that sessions have handed out."""

    vad: list[VadWork] = field(default_factory=list)
    windows: deque[WindowWork] = field(default_factory=deque)
    finals: deque[FinalWork] = field(default_factory=deque)
    marks: list[PunctuationWork] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.vad or self.windows or self.finals or self.marks)

    def drop(self, sessions: Sequence[Session]) -> None:
        """Forgets the work of sessions that are over."""
        self.vad = [w for w in self.vad if w.session not in sessions]
        self.windows = deque(w for w in self.windows if w.session not in sessions)
        self.finals = deque(w for w in self.finals if w.session not in sessions)
        self.marks = [w for w in self.marks if w.session not in sessions]

    def add(self, work: Sequence[Work]) -> None:
        for item in work:
            match item:
                case VadWork():
                    self.vad.append(item)
                case WindowWork():
                    self.windows.append(item)
                case FinalWork():
                    self.finals.append(item)
                case PunctuationWork():
                    self.marks.append(item)


class Engine:
    """Serves many sessions from one inference thread."""

    def __init__(self, load: Callable[[], Models], config: EngineConfig = EngineConfig()) -> None:
        """`load` is called on the inference thread, to which everything that MLX makes then belongs."""
        self.config = config
        self.changed = threading.Condition()
        self._load = load
        self._thread = threading.Thread(target=self._run, name="parastream-inference", daemon=True)
        self._runner: Runner | None = None
        self._loaded = threading.Event()
        self._failure: BaseException | None = None
        self._stopping = False
        self._streams: list[Stream] = []
        self._pending = _Pending()
        self._final: Generator[None] | None = None
        self._final_batch: list[FinalWork] = []
        self._counters = _Counters()

    def start(self) -> None:
        """Starts the inference thread, which loads and warms up the models; returns at once."""
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether the models are loaded and warm."""
        return self._runner is not None and self._failure is None and not self._stopping

    @property
    def models(self) -> Models:
        """What the engine serves.

        Raises:
            EngineError: they are not loaded yet.
        """
        if self._runner is None:
            raise EngineError("the models are not loaded yet")
        return self._runner.models

    def wait_ready(self, timeout: float | None = None) -> None:
        """Blocks until the models are warm.

        Raises:
            ParastreamError: loading failed; this is the reason.
            EngineError: it took longer than `timeout` seconds.
        """
        if not self._loaded.wait(timeout):
            raise EngineError(f"the models were not ready after {timeout} s")
        if isinstance(self._failure, ParastreamError):
            raise self._failure
        if self._failure is not None:
            raise EngineError(f"the engine failed: {self._failure}") from self._failure

    def check_running(self) -> None:
        """Raises `EngineError` unless sessions are being served."""
        if self._failure is not None:
            raise EngineError(f"the engine failed: {self._failure}")
        if self._stopping:
            raise EngineError("the engine has been stopped")

    def open(self, config: SessionConfig, on_events: Callable[[list[Event]], None]) -> Stream:
        """Begins a session. `on_events` is called on the inference thread and must return quickly.

        Raises:
            CapacityError: the engine serves as many sessions as it can.
            EngineError: it is not ready, has failed, or has been stopped.
            ModelConfigError: the models cannot do what `config` asks for.
        """
        with self.changed:
            self.check_running()
            if self._runner is None:
                raise EngineError("the models are not loaded yet")
            if len(self._streams) >= self.config.max_sessions:
                raise CapacityError(f"all {self.config.max_sessions} sessions are in use; try again when one has ended")
            stream = Stream(self, self._runner.new_session(config), on_events)
            self._streams.append(stream)
            self.changed.notify()
            return stream

    def stats(self) -> EngineStats:
        """A snapshot."""
        with self.changed:
            counters = self._counters
            return EngineStats(
                sessions=len(self._streams),
                backlog=max((stream.backlog for stream in self._streams), default=0.0),
                windows=counters.windows,
                window_batches=counters.window_batches,
                finals=counters.finals,
                final_batches=counters.final_batches,
                busy=counters.busy,
            )

    def close(self) -> None:
        """Stops the thread; open sessions get no more events."""
        with self.changed:
            self._stopping = True
            self.changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    # --------------------------------------------------------- inference thread

    def _run(self) -> None:
        try:
            runner = Runner(self._load())
            runner.warm_up()
            self._runner = runner
        except BaseException as error:
            self._failure = error
            return
        finally:
            self._loaded.set()
        try:
            while self._turn(runner):
                pass
        except BaseException as error:
            logger.exception("the inference thread failed")
            self._failure = error
            for stream in self._streams:
                stream.session.fail("the recogniser has stopped")
                stream.publish()

    def _turn(self, runner: Runner) -> bool:
        """Takes what has come in and does the most urgent work; False when the engine stops."""
        with self.changed:
            while not (self._stopping or self._pending or self._final or any(s.waiting for s in self._streams)):
                self.changed.wait()
            if self._stopping:
                return False
            streams = list(self._streams)
        began = time.perf_counter()
        for stream in streams:
            stream.collect()
        self._gather(streams)
        pending = self._pending
        if pending.vad:
            frames, pending.vad = pending.vad, []
            with self._guarded(frames):
                runner.run_vad(frames)
            self._gather(streams)
        if pending.windows:
            self._run_windows(runner)
        if self._final is not None or pending.finals:
            self._run_final_slice(runner)
        self._gather(streams)
        if pending.marks:
            marks, pending.marks = pending.marks, []
            with self._guarded(marks):
                runner.run_punctuation(marks)
            self._gather(streams)
        over = [stream for stream in streams if stream.publish()]
        if over:
            pending.drop([stream.session for stream in over])
        with self.changed:
            self._streams = [stream for stream in self._streams if stream not in over]
            self._counters.busy += time.perf_counter() - began
        return True

    def _gather(self, streams: Sequence[Stream]) -> None:
        for stream in streams:
            self._pending.add(stream.session.work(max_vad_frames=self.config.max_vad_frames))

    def _run_windows(self, runner: Runner) -> None:
        windows = self._pending.windows
        batch = [windows.popleft() for _ in range(min(len(windows), self.config.max_windows))]
        with self._guarded(batch):
            runner.run_windows(batch)
        self._counters.windows += len(batch)
        self._counters.window_batches += 1

    def _run_final_slice(self, runner: Runner) -> None:
        if self._final is None:
            self._final_batch = self._next_finals()
            self._final = runner.run_finals(self._final_batch, layers=self.config.slice_layers)
            self._counters.finals += len(self._final_batch)
            self._counters.final_batches += 1
        done = True
        with self._guarded(self._final_batch):
            done = next(self._final, _DONE) is _DONE
        if done:
            self._final, self._final_batch = None, []

    def _next_finals(self) -> list[FinalWork]:
        """The oldest pass, and others of about its length while padding stays cheap."""
        finals = self._pending.finals
        batch = [finals.popleft()]
        rows = len(batch[0].features)
        for work in list(finals):
            longest = max(rows, len(work.features))
            alike = 2 * min(rows, len(work.features)) >= longest
            if alike and longest * (len(batch) + 1) <= self.config.max_final_rows:
                finals.remove(work)
                batch.append(work)
                rows = longest
        return batch

    @contextmanager
    def _guarded(self, batch: Sequence[Work]) -> Iterator[None]:
        """An error in a batch ends the sessions in it, and no others."""
        try:
            yield
        except Exception:
            logger.exception("a batch of %d failed", len(batch))
            for work in batch:
                work.session.fail("the recogniser could not deal with this audio")
