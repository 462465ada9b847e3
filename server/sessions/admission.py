"""Who gets in: begins transcriptions on the engine for every protocol, counts them, and has others listen."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
from parastream.model import catalogue
from parastream.model.errors import CapacityError, EngineError, HotwordError, ModelConfigError, ParastreamError
from parastream.model.hotwords import Hotwords, read_hotwords, warn_if_many
from parastream.server.config import ConfigError, ServerConfig
from parastream.server.metrics import Metrics
from parastream.server.sessions.decoding import Decoding
from parastream.server.sessions.mailbox import Mailbox, Post
from parastream.server.sessions.recogniser import Recogniser, RecogniserStream
from parastream.server.sessions.refused import RefusalLog
from parastream.server.sessions.secrets import make_secret
from parastream.server.sessions.transcription import Deliver, Transcription, session_configs
from parastream.server.sessions.wording import Wording
from parastream.server.wire.messages import ENCODED, Ear, Error, Start
from parastream.server.wire.refusals import RefusalError
from parastream.streaming import SessionConfig
from parastream.streaming.events import Event

logger = logging.getLogger("parastream.server")

Listen = Callable[[Transcription], None]
"""Is told of each transcription that begins, to add itself to its listeners."""

SHUTTING_DOWN = RefusalError("shutting_down", "the server is shutting down; no more audio is accepted")


class Admission:
    """What recognises, as protocols see it. Belongs to one thread, to which `post` brings the engine's events."""

    def __init__(
        self,
        engine: Recogniser,
        config: ServerConfig,
        metrics: Metrics,
        post: Post,
        listen: Sequence[Listen] = (),
        wording: Wording = Wording(),
    ) -> None:
        """See `Mailbox` for `post`; `listen` are called with each transcription that begins.

        Raises:
            ConfigError: the hotwords of all sessions cannot be read.
        """
        self._expected = _read_hotwords(config.hotwords)
        self.draining = False
        """Whether nothing new is begun."""
        self._engine = engine
        self._config = config
        self._metrics = metrics
        self.on_empty: Callable[[], None] = lambda: None
        """Called when the last transcription has ended."""
        self.make_room: Callable[[], bool] = lambda: False
        """Called when there is no room for a transcription; ends one that can be spared, or returns False."""
        self.spare: Callable[[], int] = lambda: 0
        """Says how many could be ended so."""
        self._post = post
        self._mailbox = Mailbox(post)
        self._refusals = RefusalLog()
        self._decodings = 0
        self._listen = listen
        self._wording = wording
        self._open: dict[Transcription, None] = {}

    def __len__(self) -> int:
        return len(self._open)

    @property
    def expected(self) -> Hotwords:
        """Hotwords that are listened for in all sessions."""
        return self._expected

    @property
    def max_upload(self) -> int:
        """Bytes of the largest recording."""
        return self._config.max_upload

    @property
    def open(self) -> list[Transcription]:
        """Recognitions that have not ended."""
        return list(self._open)

    @property
    def model(self) -> str:
        """Name of the model that is served. Raises `RefusalError` before it is loaded."""
        with _once_loaded():
            return self._engine.model

    @property
    def languages(self) -> tuple[str, ...]:
        """Those that finals may be in, as ISO 639 codes. Raises `RefusalError` before the models are loaded."""
        with _once_loaded():
            return self._engine.languages

    @property
    def ears(self) -> tuple[Ear, ...]:
        """The models that listen. Raises `RefusalError` before they are loaded."""
        with _once_loaded():
            listeners = self._engine.listeners
        found = []
        for name, languages, partials, finals, computing in listeners:
            card = catalogue.card(name)
            about, figures, licence = (card.description, card.figures, card.licence) if card else ("", "", "")
            found.append(Ear(name, partials, finals, languages, about, figures, licence, str(computing)))
        return tuple(found)

    @property
    def not_ready(self) -> str | None:
        """Why nothing can be begun; None when all is well."""
        if self.draining:
            return "shutting down"
        if self._engine.ready:
            return None
        try:
            self._engine.check_running()
        except EngineError as error:
            return str(error)
        return "loading the model"

    @property
    def places(self) -> int:
        """How many streams more can be begun now, those included that can be had by giving up forgotten sessions."""
        if self.not_ready is not None:
            return 0
        waiting = self.spare()
        free = self._config.max_sessions - sum(len(each.configs) for each in self._open if not each.orphaned)
        return max(0, min(free, self._engine.stats().places) + waiting)

    @property
    def full(self) -> RefusalError | None:
        """Why a client had better try another server; None where it may try this one."""
        if self.draining:
            return SHUTTING_DOWN
        if self.not_ready is None and not self.places:
            return RefusalError("capacity", "the server has no place for another session; try again when one has ended")
        return None

    def begin(
        self,
        start: Start,
        deliver: Deliver,
        name: str,
        *,
        decoding: Decoding | None = None,
        entitled: bool = True,
    ) -> Transcription:
        """Begin what `start` asks for; its events go to `deliver`.

        Args:
            start: what the client asks for.
            deliver: takes the events.
            name: for the log.
            decoding: decodes audio that is `encoded`; a new one if left out.
            entitled: whether the client speaks; a recording that is uploaded has no claim on real time.

        Raises:
            RefusalError: it cannot be had, or not now.
        """
        reason = self.not_ready
        if reason is not None:
            raise RefusalError("not_ready", f"{reason}, try again later")
        if not start.language:
            start = msgspec.structs.replace(start, language=self._config.language)
        configs = session_configs(
            start, self.model, self._config.model, self._wording, self._expected, entitled=entitled
        )
        warn_if_many(configs[0].hotwords, f"session {name}")
        if start.format == ENCODED and decoding is None:
            decoding = self.decode(channels=start.channels, live=entitled, name=name)
        transcription = Transcription(name, start, configs, deliver, decoding)
        try:
            self._open_with_room(transcription)
        except CapacityError as error:
            raise RefusalError("capacity", str(error)) from error
        except ModelConfigError as error:
            raise RefusalError("unsupported", str(error)) from error
        except ParastreamError as error:
            raise RefusalError("internal", str(error)) from error
        self._open[transcription] = None
        self._metrics.sessions_opened.inc()
        transcription.on_ended.append(lambda: self._ended(transcription))
        for listen in self._listen:
            listen(transcription)
        return transcription

    def decode(self, *, channels: int | None, live: bool, name: str) -> Decoding:
        """Return what decodes a client's audio; see `Decoding`.

        Raises:
            RefusalError: there are too many already.
        """
        if self._decodings >= self._config.max_sessions:
            raise RefusalError("capacity", f"all {self._config.max_sessions} sessions are in use; try again later")
        self._decodings += 1
        decoding = Decoding(self._post, channels=channels, live=live, most=self._config.max_upload, name=name)
        decoding.on_stopped = self._decoded
        return decoding

    def make_secret(self, expires: int) -> str:
        """Return a token with which a client may connect until an instant, in seconds since 1970."""
        return make_secret(self._config.token, expires)

    def _decoded(self) -> None:
        self._decodings -= 1

    def _open_with_room(self, transcription: Transcription) -> None:
        """Open a transcription; those that nobody is connected to give way to it. Raises what the engine raises."""
        while True:
            try:
                working = sum(len(each.configs) for each in self._open if not each.orphaned)
                if working + len(transcription.configs) > self._config.max_sessions:
                    most = self._config.max_sessions
                    raise CapacityError(f"all {most} sessions are in use; try again when one has ended")
                transcription.open(lambda config, apply: self._open_stream(config, apply, transcription.name))
                return
            except CapacityError:
                if not self.make_room():
                    raise

    def _open_stream(
        self, config: SessionConfig, apply: Callable[[Sequence[Event]], None], name: str
    ) -> RecogniserStream:
        def on_events(events: list[Event]) -> None:  # on the inference thread
            self._mailbox.put(apply, events)

        return self._engine.open(config, on_events, name)

    def _ended(self, transcription: Transcription) -> None:
        del self._open[transcription]
        self._metrics.sessions_closed.inc()
        self._metrics.finals.inc(transcription.finals)
        self._metrics.audio_seconds.inc(transcription.seconds)
        logger.info(
            "session %s: closed after %.1f s of audio, %d finals%s",
            transcription.name,
            transcription.seconds,
            transcription.finals,
            f" ({transcription.failure})" if transcription.failure else "",
        )
        if not self._open:
            self.on_empty()

    def refuse(self, who: str, refusal: RefusalError | Error) -> None:
        """Note that a client was turned away. `who` is its protocol and its address."""
        self.complain(who, refusal)
        self._metrics.requests_refused.inc()

    def complain(self, who: str, refusal: RefusalError | Error) -> None:
        """Tell the log of something that a client was refused."""
        if refusal.code != "shutting_down":  # which is no fault of the client's
            self._refusals.tell(who, refusal.code, refusal.message)

    def drain(self) -> None:
        """Begin nothing more and end what is under way; finals still come."""
        self.draining = True
        for transcription in self.open:
            transcription.fail(SHUTTING_DOWN)

    def abort(self) -> list[Transcription]:
        """End at once what has not ended yet, and say what that was."""
        unfinished = self.open
        for transcription in unfinished:
            transcription.abort(SHUTTING_DOWN)
        return unfinished

    def count_resume(self) -> None:
        """Note that a client came back to its session."""
        self._metrics.sessions_resumed.inc()


@contextlib.contextmanager
def _once_loaded() -> Iterator[None]:
    try:
        yield
    except EngineError as error:
        raise RefusalError("not_ready", f"{error}, try again later") from error


def _read_hotwords(file: str) -> Hotwords:
    """Read the hotwords of all sessions; there are none without a file. Raises `ConfigError`."""
    try:
        return read_hotwords(Path(file)) if file else ()
    except HotwordError as error:
        raise ConfigError(str(error)) from error
