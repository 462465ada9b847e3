"""The engine: one thread that owns MLX and serves all sessions, in batches.

A turn of the thread: a round of voice activity (so that endpoints are known), one batch of streaming windows, then, in
a slice of time, marks and full-context passes. A window that can be computed therefore waits for at most the turn that
is going on. docs/engine.md says what bounds each part; `schedule` has the decisions, `capacity` the measurements.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from functools import partial

from parastream.model.errors import CapacityError, EngineError, ParastreamError
from parastream.model.process import leave_thread
from parastream.streaming import attempts, passes, schedule
from parastream.streaming.aside import Aside, Begun
from parastream.streaming.attempts import LostError, W
from parastream.streaming.beat import ROUND, Beats
from parastream.streaming.better_ear import Patience, next_refinements
from parastream.streaming.capacity import LATE, Capacity, Load, Longest, calibrate, has_room, no_room, places
from parastream.streaming.engine_config import MOST_WINDOWS, EngineConfig
from parastream.streaming.events import Event
from parastream.streaming.memory import session_memory
from parastream.streaming.observer import Batch, Kind, Observer, Observers, Turn
from parastream.streaming.pending import PassBatch, Queues
from parastream.streaming.replay import Replay
from parastream.streaming.runner import ALL_STEPS, UNRECOGNISABLE, Listener, Marked, Models, Runner, refuse
from parastream.streaming.schedule import Slice, Waiting
from parastream.streaming.session import Session, SessionConfig
from parastream.streaming.stats import Counters, EngineStats
from parastream.streaming.stream import Stream
from parastream.streaming.work import Ear, FinalWork, PunctuationWork, WindowWork, Work

logger = logging.getLogger("parastream.engine")

_DONE = object()
_MOST_FAILURES = 3
"""Turns that may fail in a row before the engine gives up."""

_clock = time.monotonic


class Engine:
    """One inference thread that serves many sessions."""

    def __init__(
        self,
        load: Callable[[], Models],
        config: EngineConfig = EngineConfig(),
        *,
        observers: Sequence[Observer] = (),
        replaceable: bool = False,
    ) -> None:
        """Prepare an engine; `start` starts it.

        Args:
            load: Called on the inference thread, to which everything that MLX makes then belongs.
            config: How the engine schedules.
            observers: Told of each turn, partial and final.
            replaceable: Whether others go on with its sessions, which are told nothing then, if it is lost.
        """
        self.config = config
        self.changed = threading.Condition()
        self._load = load
        self._replaceable = replaceable
        self._thread = threading.Thread(target=self._run, name="parastream-inference", daemon=True)
        self._runner: Runner | None = None
        self._loaded = threading.Event()
        self._failure: BaseException | None = None
        self._stopping = False
        self._streams: dict[Session, Stream] = {}
        self._touched: dict[Stream, None] = {}  # in order: those to which clients have done something
        self._costs: Capacity | None = None
        self._session_bytes = 0
        self._counters = Counters()
        self._busy = Load(_clock())
        self._waits = Longest(_clock())
        # The rest is for the inference thread.
        self._observers = Observers(observers)
        self._batches: list[Batch] = []  # of this turn
        self._windows_left = 0
        self._batch_count = 0
        self._queues = Queues()
        self._patience = Patience()
        self._beats = Beats(rests=False)
        self._aside = Aside(there=False)
        self._prepared: Begun[object] | None = None  # features of windows that wait
        self._marking: deque[tuple[Waiting[PunctuationWork], Begun[Marked]]] = deque()  # aside
        self._active: dict[Stream, None] = {}  # those for which something has happened that was not told
        self._computed = 0.0  # seconds in the models
        self._ahead = self._extra = 0.0  # of this turn, as in `Load.add`
        self._collected = self._overhead = 0.0  # seconds of audio, and outside the models, that are not yet measured

    def start(self) -> None:
        """Start the inference thread, which loads and warms up the models, and return at once."""
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether the models are loaded and warm."""
        return self._runner is not None and self._failure is None and not self._stopping

    @property
    def models(self) -> Models:
        """What the engine serves.

        Raises:
            EngineError: They are not loaded yet.
        """
        if self._runner is None:
            raise EngineError("the models are not loaded yet")
        return self._runner.models

    @property
    def model(self) -> str:
        """Name of the speech model. Raises `EngineError` before it is loaded."""
        return self.models.name

    @property
    def languages(self) -> tuple[str, ...]:
        """Those that finals may be in, as ISO 639 codes. Raises `EngineError` before the models are loaded."""
        return self.models.first.capabilities.languages

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """The models that listen. Raises `EngineError` before they are loaded."""
        return self.models.listeners

    def wait_ready(self, timeout: float | None = None) -> None:
        """Block until the models are warm.

        Raises:
            ParastreamError: Loading failed; this is the reason.
            EngineError: It took longer than `timeout` seconds.
        """
        if not self._loaded.wait(timeout):
            raise EngineError(f"the models were not ready after {timeout} s")
        if isinstance(self._failure, ParastreamError):
            raise self._failure
        if self._failure is not None:
            raise EngineError(f"the engine failed: {self._failure}") from self._failure

    def wait_stopped(self) -> None:
        """Block until the inference thread has ended: the engine was closed, or it has failed."""
        self._thread.join()

    def check_running(self) -> None:
        """Make sure that sessions are being served.

        Raises:
            EngineError: The engine has failed or has been stopped.
        """
        if self._failure is not None:
            raise EngineError(f"the engine failed: {self._failure}")
        if self._stopping:
            raise EngineError("the engine has been stopped")

    def open(
        self,
        config: SessionConfig,
        on_events: Callable[[list[Event]], None],
        name: str = "",
        *,
        admitted: bool = False,
        replay: Replay | None = None,
    ) -> Stream:
        """Begin a session.

        Args:
            config: What the client asked for.
            on_events: Called on the inference thread; must return quickly.
            name: Names the session in logs and to observers.
            admitted: Whether somebody else has made sure that there is room for it.
            replay: What has been told already, if this goes on with a session of another engine.

        Raises:
            CapacityError: The engine serves as many sessions as it can.
            EngineError: It is not ready, has failed, or has been stopped.
            ModelConfigError: The models cannot do what `config` asks for.
        """
        with self.changed:
            self.check_running()
            if self._runner is None:
                raise EngineError("the models are not loaded yet")
            if not admitted and len(self._streams) >= self.config.max_sessions:
                raise CapacityError(f"all {self.config.max_sessions} sessions are in use; try again when one has ended")
            receiving = sum(stream.receiving for stream in self._streams.values())
            if not admitted and not has_room(receiving, self._capacity(), self._waits.at(_clock())):
                raise no_room(receiving)
            session = self._runner.new_session(config, name, replay)
            behind = 0.0 if replay is None else replay.seconds
            stream = self._streams[session] = Stream(self, session, on_events, self._observers, behind=behind)
            return stream

    def touch(self, stream: Stream) -> None:
        """Have the inference thread look at a stream; the caller holds `changed`."""
        self._touched[stream] = None
        if not self._beats.rounds.rest(_clock()):  # else it wakes by itself
            self.changed.notify()

    def stats(self) -> EngineStats:
        """Return a snapshot."""
        with self.changed:
            counters, capacity, now = self._counters, self._capacity(), _clock()
            return EngineStats(
                sessions=len(self._streams),
                capacity=capacity,
                places=self._places(capacity, now),
                utilisation=self._busy.all.at(now),
                backlog=max((stream.backlog for stream in self._streams.values()), default=0.0),
                held=max((stream.session.held_seconds for stream in self._streams.values()), default=0.0),
                window_wait=self._waits.at(now),
                session_bytes=self._session_bytes,
                windows=counters.windows,
                window_batches=counters.window_batches,
                finals=counters.finals,
                final_batches=counters.final_batches,
                forgone=counters.forgone,
                busy=counters.busy,
            )

    def _places(self, capacity: int, now: float) -> int:
        receiving = sum(stream.receiving for stream in self._streams.values())
        free = places(receiving, capacity, self._waits.at(now))
        return min(free, max(0, self.config.max_sessions - len(self._streams)))

    def _capacity(self) -> int:
        return 0 if self._costs is None else self._costs.sessions(self.config.target_utilisation, self._most_windows)

    @property
    def _most_windows(self) -> int:
        return self.config.max_windows or max(MOST_WINDOWS, 4 * self.models.lanes)

    def close(self) -> None:
        """Stop the thread; open sessions get no more events."""
        with self.changed:
            self._stopping = True
            self.changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        self._aside.close()

    # --------------------------------------------------------- inference thread

    def _run(self) -> None:
        try:
            self._serve()
        finally:
            if not isinstance(self._failure, LostError):  # MLX cannot wait for a GPU that has failed
                leave_thread()

    def _serve(self) -> None:
        try:
            runner = Runner(self._load())
            runner.warm_up()
            self._costs = costs = calibrate(runner)
            self._session_bytes = session_memory(runner.models, SessionConfig()).total
            if runner.models.crowded:
                self._beats, self._aside = Beats(rests=True), Aside(there=True, ended=self._wake)
            self._runner = runner
        except BaseException as error:
            self._failure = error
            return
        finally:
            self._loaded.set()
        failures = 0  # turns in a row
        while self._failure is None:
            try:
                if not self._turn(runner, costs):
                    return
                failures = 0
            except BaseException as error:
                failures += 1
                lost = isinstance(error, LostError)
                logger.exception("a turn of the inference thread failed")
                if failures == _MOST_FAILURES or lost or not isinstance(error, Exception):
                    self._failure = error
                if not (lost and self._replaceable):
                    self._end_all()

    def _wake(self) -> None:
        with self.changed:
            self.changed.notify()

    def _end_all(self) -> None:
        """End every session: nobody knows what a turn that failed has left undone."""
        self._queues, self._batches, self._windows_left = Queues(), [], 0
        self._marking.clear()
        with self.changed:
            streams, self._streams, self._touched = list(self._streams.values()), {}, {}
        self._active.clear()
        for stream in streams:
            stream.session.fail("the recogniser has failed")
            stream.publish(_clock())

    def _turn(self, runner: Runner, costs: Capacity) -> bool:
        """Take what has come in and do the most urgent work; return False when the engine stops."""
        with self.changed:
            while not self._stopping and (rest := self._rest()) != 0:
                self.changed.wait(rest)
            if self._stopping:
                return False
            touched: list[Stream] = []
            if listens := not self._beats.rounds.rest(_clock()):
                touched = [stream for stream in self._touched if stream.session in self._streams]
                self._touched = {}
        began = _clock()
        computed, windows = self._computed, 0.0
        if listens:
            self._advance(touched)
            with self._beside(runner, costs):  # beside it those windows are computed that are known already
                windows = self._run_windows(runner, costs) if self._aside.there else 0.0
            self._beats.rounds.follow(began, ROUND, self._busy.live.at(began))
        windows = windows or self._run_windows(runner, costs)
        self._give_way(runner, costs)
        self._refine(runner, costs)
        self._publish()
        self._run_slice(runner, costs, windows)
        self._publish()
        ended = _clock()
        self._overhead += ended - began - (self._computed - computed)
        if self._collected >= 1:
            costs.turns.observe(self._overhead, self._collected)
            self._overhead = self._collected = 0.0
        with self.changed:
            self._counters.busy += ended - began
            self._busy.add(began, ended, ahead=self._ahead, extra=self._extra)
        self._ahead = self._extra = 0.0
        if self._observers:
            self._observers.turn(Turn(began, ended - began, tuple(self._batches), self._windows_left))
            self._batches.clear()
            self._windows_left = 0
        return True

    def _rest(self) -> float | None:
        """Return for how many seconds there is nothing to do; None: until somebody does something."""
        marked = bool(self._marking) and self._marking[0][1].done
        return self._beats.rest(_clock(), self._queues, touched=bool(self._touched), marked=marked)

    def _publish(self) -> None:
        """Tell what the turn has brought so far, and let go of sessions that are over."""
        now = _clock()
        over = [stream for stream in self._active if stream.publish(now)]
        self._active.clear()
        if over:
            sessions = {stream.session for stream in over}
            self._queues.drop(sessions)
            with self.changed:
                for session in sessions:
                    del self._streams[session]

    def _advance(self, streams: Iterable[Stream]) -> None:
        """Let sessions take what has come in and hand out what can be computed now."""
        now = _clock()
        for stream in streams:
            self._active[stream] = None
            try:
                self._collected += stream.collect()
                due = stream.due
                work = stream.session.work(max_vad_frames=self.config.max_vad_frames)
            except Exception:
                logger.exception("session %s failed", stream.session.name)
                stream.session.fail(UNRECOGNISABLE)
                continue
            self._queues.add(work, due)
            for item in work:
                if isinstance(item, WindowWork | FinalWork):
                    item.utterance.timeline.ahead = due > now + schedule.BURST

    @contextmanager
    def _beside(self, runner: Runner, costs: Capacity) -> Generator[None]:
        """Judge frames; where there is a thread aside, do that beside what the context does."""
        waiting = self._queues.vad
        chosen = schedule.next_frames(waiting, costs.frames.each, self.config.slice_budget)
        self._queues.vad = schedule.without(waiting, chosen)
        batch = [item.work for item in chosen]
        judged = self._aside.begin(partial(runner.judge, batch)) if batch else None
        yield
        if batch:
            steps = max(work.frames for work in batch)
            frames = sum(work.frames for work in batch)
            seconds = self._compute(batch, lambda part: runner.run_vad(part, judged=judged if part is batch else None))
            self._note("vad", chosen, frames, seconds)
            costs.frames.observe(seconds if judged is None else judged.seconds, frames / steps, steps)
            self._queues.drop_unwanted()
            self._advance(self._streams_of(batch))
        if runner.features_anywhere:
            self._prepared = self._aside.begin(partial(runner.rows_of, [item.work for item in self._queues.windows]))

    def _mark_beside(self, runner: Runner, costs: Capacity) -> None:
        """Where there is a thread aside, have it set marks, and take those that it has set."""
        while True:  # those that are set may make others possible
            while self._queues.marks and (begun := self._aside.begin(partial(runner.mark, self._queues.marks[0].work))):
                self._marking.append((self._queues.marks.popleft(), begun))
            if not self._marking or not self._marking[0][1].done:
                return
            self._run_marks(runner, costs, *self._marking.popleft())

    def _run_windows(self, runner: Runner, costs: Capacity) -> float:
        """Compute the next batch of windows and return how many seconds it took."""
        self._queues.drop_unwanted()
        waiting, now = self._queues.windows, _clock()
        if not waiting or self._beats.windows.rest(now):
            return 0.0
        if self._prepared is not None:
            self._prepared.wait()
        extra = 0 if all(item.urgent(now) for item in waiting) else self._extra_windows(costs, now)
        chosen = self._queues.take_windows(now, most=self._most_windows, extra=extra, placed=runner.placed)
        if not chosen:
            self._beats.windows.pause(now)
            with self.changed:
                self._waits.add(now - min(item.due for item in waiting), now)
            return 0.0
        self._windows_left = sum(item.urgent(now) for item in self._queues.windows)
        batch = [item.work for item in chosen]
        late = self._waits.at(now) > LATE / 2 and self._busy.live.at(now) > schedule.SPARE
        # Windows that would soon be late are cheaper without a language model.
        seconds = self._compute(batch, partial(runner.run_windows, hurry=late and not self.config.always_better))
        self._note("windows", chosen, len(batch), seconds)
        costs.windows.observe(seconds, len(batch))
        after = _clock()
        self._beats.windows.follow(after, seconds, self._busy.live.at(after))
        with self.changed:
            self._counters.windows += len(batch)
            self._counters.window_batches += 1
            self._waits.add(after - min(item.due for item in waiting), after)
        self._advance(self._streams_of(batch))
        return seconds

    def _extra_windows(self, costs: Capacity, now: float) -> int:
        """Return how many windows ahead of real time may go with those that are due.

        While anybody speaks in real time, no more than take half as long as a slice: who speaks next waits for them.
        """
        if not any(stream.receiving and stream.urgent(now) for stream in list(self._streams.values())):
            return self._most_windows
        return int(self.config.slice_budget / 2 / max(costs.windows.each, 1e-9))

    def _run_slice(self, runner: Runner, costs: Capacity, windows: float) -> None:
        """Compute marks, which are all that some utterances still need, and pieces of full-context passes.

        `windows` is how many seconds the batch of windows before it took. When there is little time to spare, passes
        that nobody needs for certain wait for a turn without windows.
        """
        now = _clock()
        waits = now - self._queues.oldest_decided
        spare = not windows or self._busy.needed.at(now) < schedule.SPARE
        load = self._busy.live.at(now)
        time_left = Slice(schedule.slice_budget(self.config.slice_budget, windows=windows, waits=waits, load=load))
        self._mark_beside(runner, costs)
        while not time_left.over:
            began = _clock()
            if self._queues.marks:
                self._run_marks(runner, costs, self._queues.marks.popleft())
            elif not self._run_piece(runner, costs, spare=spare):
                break
            self._mark_beside(runner, costs)
            time_left.spend(_clock() - began)
            if not self._queues.marks:
                self._publish()  # finals need not wait for the end of the slice

    def _run_marks(
        self, runner: Runner, costs: Capacity, item: Waiting[PunctuationWork], begun: Begun[Marked] | None = None
    ) -> None:
        seconds = self._compute([item.work], partial(runner.run_punctuation, begun=begun))
        self._note("marks", [item], 1, seconds)
        costs.marks.observe(seconds if begun is None else begun.seconds, 1)
        self._advance(self._streams_of([item.work]))

    def _run_piece(self, runner: Runner, costs: Capacity, *, spare: bool) -> bool:
        """Compute a few layers of the most urgent batch of passes; return False when the slice is over with that.

        It is when there is none, or only partials to refine: a window that comes now need not wait for those of others.
        """
        current = self._next_pass(runner, costs, spare=spare)
        if current is None:
            return False
        finished = True  # as is a batch that fails
        batch = [item.work for item in current.batch]

        def advance(part: Sequence[FinalWork]) -> None:
            nonlocal finished
            if part is batch:
                finished = next(current.pieces, _DONE) is _DONE
            else:  # the batch has failed
                for _ in runner.run_finals(part, steps=ALL_STEPS):
                    pass

        if current.batches_before != self._batch_count:
            current.overtake(_clock())
        seconds = self._compute(batch, advance)
        current.seconds += seconds
        kind: Kind = "refinements" if current.refines else "finals"
        self._note(kind, current.batch, current.rows, seconds, complete=finished)
        current.stopped, current.batches_before = _clock(), self._batch_count
        if finished:
            self._beats.passes.follow(current.stopped, current.seconds, self._busy.live.at(current.stopped))
            self._queues.passes.remove(current)
            if current.ear is Ear.BETTER and not current.refines:
                self._patience.add(in_time=sum(work.wanted for work in batch))
            costs.of(current.ear, refines=current.refines).observe(current.seconds if seconds else 0.0, current.rows)
            self._advance(self._streams_of(batch))
        return not current.refines

    def _next_pass(self, runner: Runner, costs: Capacity, *, spare: bool) -> PassBatch | None:
        """Return the batch of passes to go on with, begun now if need be."""
        now = _clock()
        may_begin = not self._beats.passes.rest(now)
        waiting = [(schedule.rank(item, now), item) for item in self._queues.finals if may_begin]
        begun = [(batch.rank(now), batch) for batch in self._queues.passes]
        ranks = [rank for rank, _ in [*waiting, *begun] if spare or rank.needed]
        if not ranks:
            return None
        first = min(ranks)
        for rank, batch in begun:
            if rank == first:
                return batch
        return self._begin_pass(runner, costs, [item for rank, item in waiting if rank == first], now)

    def _begin_pass(self, runner: Runner, costs: Capacity, alike: list[Waiting[FinalWork]], now: float) -> PassBatch:
        chosen = schedule.next_passes(alike, most_rows=passes.most_rows(runner, costs, alike[0].work, self.config))
        self._queues.finals = schedule.without(self._queues.finals, chosen)
        self._counters.finals += len(chosen)
        self._counters.final_batches += 1
        return self._started(runner, costs, chosen, now)

    def _refine(self, runner: Runner, costs: Capacity) -> None:
        """Begin to hear utterances that are open once more, where there is room."""
        if not self.config.refine or Ear.BETTER not in runner.ears:
            return
        now = _clock()
        room = self._busy.live.at(now) < schedule.ROOM and self._waits.at(now) <= LATE
        streams = list(self._streams.values())
        for stream in streams:
            stream.session.refines = room and stream.urgent(now)
        if room and self._queues.idle(now):
            candidates = next_refinements((s.session for s in streams if s.urgent(now)), costs.refinements)
            if candidates:
                most = passes.most_rows(runner, costs, candidates[0].work, self.config)
                chosen = schedule.next_passes(candidates, most_rows=most)
                for item in chosen:
                    item.work.refinement.ask(item.work.end)
                self._started(runner, costs, chosen, now)

    def _started(self, runner: Runner, costs: Capacity, chosen: list[Waiting[FinalWork]], now: float) -> PassBatch:
        begun = passes.begin(runner, costs, PassBatch(chosen, now, self._batch_count), self.config.slice_budget)
        self._queues.passes.append(begun)
        return begun

    def _give_way(self, runner: Runner, costs: Capacity) -> None:
        """Let finals go out that would be late if they waited for the better ear."""
        if self.config.always_better or Ear.BETTER not in runner.ears:
            return
        now = _clock()
        late = self._patience.too_late(self._queues, costs.better, self._busy, now, window_wait=self._waits.at(now))
        if not late:
            return
        self._patience.add(too_late=len(late))
        for work in late:
            work.session.forgo(work.utterance)
        self._counters.forgone += len(late)
        self._queues.drop_unwanted()
        self._advance(self._streams_of(late))

    def _compute(self, batch: Sequence[W], run: Callable[[Sequence[W]], object]) -> float:
        """Compute a batch and return how many seconds it took; 0 for one that fails.

        Sessions whose work cannot be computed end, and no others. Raises `LostError`, see `attempts`.
        """
        began = _clock()
        failed = attempts.compute(batch, run, check=self.models.check)
        for work in failed:
            refuse(work)
        seconds = 0.0 if failed else _clock() - began
        self._computed += seconds
        return seconds

    def _note(
        self, kind: Kind, items: Sequence[Waiting[Work]], units: int, seconds: float, *, complete: bool = True
    ) -> None:
        """Keep a batch that has just been computed for the observers."""
        self._batch_count += 1
        now = _clock()
        ahead = sum(not item.urgent(now) for item in items) / len(items)
        self._ahead += seconds * ahead
        if isinstance(first := items[0].work, FinalWork) and first.better:  # then all are
            self._extra += seconds * (1 - ahead)
        if self._observers:
            names = tuple(item.work.session.name for item in items)
            wait = max(0.0, now - seconds - min(item.due for item in items))
            self._batches.append(Batch(kind, names, units, seconds, wait, complete))

    def _streams_of(self, batch: Sequence[Work]) -> list[Stream]:
        """Return the streams of those sessions in a batch that are still open."""
        return [self._streams[work.session] for work in batch if work.session in self._streams]
