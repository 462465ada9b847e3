"""Encoded audio of one client on its way to samples: bytes go in on the event loop, a thread decodes them.

The samples come back on the event loop. There is never much of anything: the thread rests while the engine has enough
to do, and `waiting` says how much the thread has not taken yet, so that a connection stops reading.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from parastream.media.decoding import SourceError
from parastream.media.live import open_sound
from parastream.media.samples import check_channels, resampled
from parastream.server.sessions.mailbox import Post
from parastream.server.wire.refusals import INTERNAL, RefusalError
from parastream.streaming.audio import MOST_CHANNELS, SAMPLE_RATE

logger = logging.getLogger("parastream.server")

MOST_AHEAD = 5.0
"""Seconds of samples that the engine has not looked at while the thread rests."""
_PIECE = 0.5
"""Seconds of samples that go to the event loop at once, unless there is nothing more to decode."""
_BYTES_PER_SECOND = 16_000.0
"""Taken for the rate of encoded audio before it is known."""


class Decoded(Protocol):
    """Takes what comes of a decoding, on the event loop."""

    def hear(self, samples: bytes) -> None:
        """Take samples: 32-bit floats, channels interleaved, at the engine's rate."""

    def mark_flush(self) -> None:
        """Note that all samples before a `flush` have come."""

    def mark_end(self) -> None:
        """Note that all samples have come."""

    def fail(self, refusal: RefusalError) -> None:
        """Note that the rest cannot be decoded."""


class _Mark(enum.Enum):
    FLUSH = enum.auto()
    END = enum.auto()


class _CancelledError(Exception):
    """Nobody wants the rest."""


class Decoding:
    """Decodes one client's audio, whatever its bytes say that it is."""

    def __init__(self, post: Post, *, channels: int | None, live: bool, most: int, name: str = "") -> None:
        """Prepare to decode.

        Args:
            post: has a function called on the event loop.
            channels: how many are wanted: 1 mixes all; None keeps those that there are, and `on_open` tells.
            live: whether samples are wanted as soon as their bytes have come; otherwise damage is passed over.
            most: bytes that may come.
            name: for the log.
        """
        self.on_open: Callable[[int], None] = lambda channels: None
        """Called with the number of channels once that is known, before any samples."""
        self.on_refused: Callable[[RefusalError], None] = lambda refusal: None
        """Called instead if the audio cannot be decoded and nobody is attached."""
        self.on_drained: Callable[[], None] = lambda: None
        """Called when less waits to be decoded."""
        self.on_stopped: Callable[[], None] = lambda: None
        """Called once, when the thread has come to its end."""
        self.damage = ""
        """Which places were damaged and passed over."""
        self._post = post
        self._channels = channels
        self._live = live
        self._most = most
        self._received = 0  # bytes
        self._name = name
        self._to: Decoded | None = None
        self._thread: threading.Thread | None = None
        # The rest belongs to both threads.
        self._changed = threading.Condition()
        self._input: deque[bytes | _Mark] = deque()
        self._waiting = 0  # bytes in it
        self._taken = 0  # bytes that the thread has taken
        self._decoded = 0.0  # seconds
        self._looked = 0.0  # seconds that the engine has looked at
        self._ended = False
        self._cancelled = False
        self._held: list[NDArray[np.float32]] = []  # the thread's
        self._held_samples = 0

    def attach(self, to: Decoded) -> None:
        """Say who takes what comes of it, at the latest when `on_open` is called."""
        self._to = to

    # on the event loop

    def send(self, data: bytes) -> None:
        """Take bytes. Raises `RefusalError` when they are too many."""
        self._received += len(data)
        if self._received > self._most:
            raise RefusalError("too_large", f"the audio is larger than {self._most} bytes")
        self._put(data)
        if self._thread is None:
            # A daemon: it waits for bytes, and nobody waits for it when the process ends.
            self._thread = threading.Thread(target=self._work, name="parastream-decoding", daemon=True)
            self._thread.start()

    def flush(self) -> None:
        """Have `mark_flush` called when everything before this has been decoded."""
        if self._thread is not None:
            self._put(_Mark.FLUSH)
        elif self._to is not None:
            self._to.mark_flush()

    def end(self) -> None:
        """Have `mark_end` called when everything has been decoded."""
        if self._thread is not None:
            self._put(_Mark.END)
        elif self._to is not None:
            self._to.mark_end()

    def cancel(self) -> None:
        """Decode no more, and call nobody but `on_stopped`."""
        with self._changed:
            self._cancelled = True
            self._changed.notify()
        if self._thread is None:
            self.on_stopped()

    def look(self, seconds: float) -> None:
        """Note up to where the engine has looked at the samples."""
        with self._changed:
            self._looked = seconds
            self._changed.notify()

    @property
    def waiting(self) -> float:
        """About how many seconds of audio the thread has not taken yet."""
        with self._changed:
            known = self._decoded >= 1.0 and self._taken > 0
            return self._waiting / (self._taken / self._decoded if known else _BYTES_PER_SECOND)

    def _put(self, item: bytes | _Mark) -> None:
        with self._changed:
            self._input.append(item)
            self._waiting += len(item) if isinstance(item, bytes) else 0
            self._changed.notify()

    def _hear(self, samples: bytes) -> None:
        if self._to is not None:
            self._to.hear(samples)

    def _mark_flush(self) -> None:
        if self._to is not None:
            self._to.mark_flush()

    def _refuse(self, refusal: RefusalError) -> None:
        if self._to is None:
            self.on_refused(refusal)
        else:
            self._to.fail(refusal)
            self._to.mark_end()

    def _finish(self, damage: str) -> None:
        self.damage = damage
        if self._to is not None:
            self._to.mark_end()

    # on the thread

    def _work(self) -> None:
        try:
            self._decode_or_refuse()
        except _CancelledError:
            pass
        finally:
            self._post_call(self.on_stopped)

    def _decode_or_refuse(self) -> None:
        try:
            self._decode()
        except SourceError as error:
            self._hand_over()
            self._tell(partial(self._refuse, RefusalError("invalid_audio", str(error))))
        except _CancelledError:
            raise
        except Exception:
            logger.exception("session %s: audio could not be decoded", self._name)
            self._tell(partial(self._refuse, INTERNAL))

    def _decode(self) -> None:
        with contextlib.closing(open_sound(self, live=self._live)) as sound:
            channels = sound.channels if self._channels is None else self._channels
            check_channels(sound, channels)
            if channels > MOST_CHANNELS:
                raise SourceError(f"the audio has {channels} channels; allowed: 1 to {MOST_CHANNELS}")
            self._tell(lambda: self.on_open(channels))
            for block in resampled(sound, channels, SAMPLE_RATE):
                self._held.append(block)
                self._held_samples += len(block)
                if self._held_samples >= _PIECE * SAMPLE_RATE:
                    self._hand_over()
            self._hand_over()
            if sound.damage and self._live:
                raise SourceError(str(sound.damage))
            damage = str(sound.damage) if sound.damage else ""
            self._tell(partial(self._finish, damage))

    def read(self, size: int) -> bytes:
        """Return bytes for the decoder once there are some; none at the end."""
        while True:
            with self._changed:
                if not self._input and not self._ended and not self._held:
                    self._wait(lambda: bool(self._input))
                if self._cancelled:
                    raise _CancelledError
                item = self._input.popleft() if self._input else None
                if isinstance(item, bytes):
                    if len(item) > size:
                        self._input.appendleft(item[size:])
                        item = item[:size]
                    self._waiting -= len(item)
                    self._taken += len(item)
            match item:
                case bytes():
                    self._tell(self.on_drained)
                    if item:
                        return item
                case _Mark.FLUSH:
                    self._hand_over()
                    self._tell(self._mark_flush)
                case _Mark.END:
                    self._ended = True
                case None:
                    if self._ended:
                        return b""
                    self._hand_over()

    def _hand_over(self) -> None:
        """Pass on the samples that are held, once the engine has little enough to do."""
        if not self._held:
            return
        samples = np.concatenate(self._held)
        self._held, self._held_samples = [], 0
        with self._changed:
            self._wait(lambda: self._decoded - self._looked <= MOST_AHEAD)
            if self._cancelled:
                raise _CancelledError
            self._decoded += len(samples) / SAMPLE_RATE
        self._tell(partial(self._hear, samples.tobytes()))

    def _wait(self, condition: Callable[[], bool]) -> None:
        self._changed.wait_for(lambda: self._cancelled or condition())

    def _tell(self, call: Callable[[], None]) -> None:
        """Call on the event loop, unless nobody wants to know any more by then."""
        self._post_call(lambda: None if self._cancelled else call())

    def _post_call(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has closed, so nobody listens any more
            self._post(call)
