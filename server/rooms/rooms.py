"""Caption rooms: what is said in some sessions, for any number of viewers who only read.

A room is opened by its first speaker or its first viewer, whoever comes first, and outlives its speakers for a while.
Its times are seconds since its first speaker came. Viewers cost the recogniser nothing, and a slow one delays nobody:
each has a queue of its own, in which a line's newest partial takes the place of the one before.
"""

from __future__ import annotations

import secrets
from bisect import bisect_left
from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

from parastream.server.sessions.transcription import Transcription
from parastream.server.transcripts.utterance import AttributedUtterance
from parastream.server.wire import messages
from parastream.server.wire.messages import (
    Event,
    RoomFinal,
    RoomHistory,
    RoomLine,
    RoomLive,
    RoomMessage,
    RoomPartial,
    RoomState,
)
from parastream.server.wire.refusals import RefusalError

LINES_SHOWN = 50
"""The last lines, which a viewer who comes late is told at once; the others are asked for."""
LINES_KEPT = 20_000
"""For the transcript; the oldest ones are forgotten first. A day of speech has some ten thousand."""


class Screen(Protocol):
    """What shows a room to one viewer."""

    def put(self, key: Hashable, text: bytes) -> None:
        """Show a message, which takes the place of one with the same key that was not sent yet."""
        ...


class Room:
    """What was and is said in one room, and who watches."""

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self.name = name
        self.id = secrets.token_hex(8)
        self.speakers = 0
        """Sessions that are going on."""
        self.empty_since = clock()
        """When the last of them ended or the last viewer left, or the room was made."""
        self.viewers: dict[Screen, None] = {}
        self._clock = clock
        self.opened: float | None = None
        """When its first speaker came."""
        self._count = 0
        self._lines: dict[int, tuple[RoomLine, AttributedUtterance]] = {}  # by number
        self._partials: dict[int, RoomPartial] = {}  # of lines that have no final yet

    @property
    def utterances(self) -> list[AttributedUtterance]:
        """The transcript so far, by the time at which each line began."""
        return [self._lines[line][1] for line in sorted(self._lines)]

    def speak(self, transcription: Transcription) -> None:
        """Show what a session that begins now hears."""
        now = self._clock()
        if self.opened is None:
            self.opened = now
        offset = round(now - self.opened, 3)
        labels = transcription.labels
        numbers: dict[int, int] = {}  # line of each utterance

        def listen(event: Event) -> None:
            self._hear(event, numbers, offset, labels)

        def leave() -> None:
            for line in numbers.values():  # of utterances that never got a final
                self._settle(RoomFinal(line, "", 0.0, 0.0, ""))
            self.speakers -= 1
            self.empty_since = self._clock()
            if not self.speakers:
                self.show_live()

        self.speakers += 1
        transcription.listeners.append(listen)
        transcription.on_ended.append(leave)
        if self.speakers == 1:
            self.show_live()

    def _hear(self, event: Event, numbers: dict[int, int], offset: float, labels: dict[int, str]) -> None:
        match event:
            case messages.SpeechStarted():
                numbers[event.utterance] = self._count
                self._count += 1
            case messages.Partial():
                line = numbers[event.utterance]
                partial = self._partials[line] = RoomPartial(
                    line,
                    labels[event.channel],
                    round(offset + event.start, 3),
                    round(offset + event.end, 3),
                    event.stable,
                    event.draft,
                )
                self._show(line, partial)
            case messages.Final():
                line, speaker = numbers.pop(event.utterance), labels[event.channel]
                start, end = round(offset + event.start, 3), round(offset + event.end, 3)
                if event.text:
                    words = tuple(
                        messages.Word(
                            word.text, round(offset + word.start, 3), round(offset + word.end, 3), word.confidence
                        )
                        for word in event.words
                    )
                    shown = RoomLine(line, speaker, start, end, event.text)
                    said = AttributedUtterance(event.text, start, end, words, speaker, event.ear, event.language)
                    self._lines[line] = shown, said
                    if len(self._lines) > LINES_KEPT:
                        del self._lines[min(self._lines)]
                self._settle(RoomFinal(line, speaker, start, end, event.text))

    def _settle(self, final: RoomFinal) -> None:
        """Show a line's final, unless there is nothing to show or to take away."""
        shown = self._partials.pop(final.line, None)
        if final.text or shown is not None:
            self._show(final.line, final)

    def watch(self, viewer: Screen) -> None:
        """Show the room to one more viewer, beginning with its last lines."""
        newest = self.history(None, LINES_SHOWN)
        state = RoomState(self.name, self.speakers > 0, newest.lines, self.id, newest.earlier)
        viewer.put("room", messages.encode(state))
        for line, partial in self._partials.items():
            viewer.put(line, messages.encode(partial))
        self.viewers[viewer] = None

    def history(self, before: int | None, limit: int) -> RoomHistory:
        """Return the last `limit` lines, or the last ones before line number `before`."""
        numbers = sorted(self._lines)
        end = len(numbers) if before is None else bisect_left(numbers, before)
        start = max(end - limit, 0)
        return RoomHistory(self.name, self.id, tuple(self._lines[line][0] for line in numbers[start:end]), start)

    def leave(self, viewer: Screen) -> None:
        """Forget a viewer who is gone."""
        del self.viewers[viewer]
        self.empty_since = self._clock()

    def show_live(self) -> None:
        """Tell viewers whether somebody speaks."""
        self._show("live", RoomLive(self.speakers > 0))

    def _show(self, key: Hashable, message: RoomMessage) -> None:
        text = messages.encode(message) if self.viewers else b""
        for viewer in self.viewers:
            viewer.put(key, text)


class Rooms:
    """All rooms of a server. Belongs to one thread."""

    def __init__(
        self, clock: Callable[[], float], *, heartbeat: float, linger: float, max_rooms: int, max_viewers: int
    ) -> None:
        """Make none.

        Args:
            clock: seconds.
            heartbeat: viewers hear something at least every so many seconds.
            linger: how long a room is kept after its last speaker and viewer have gone.
            max_rooms: beyond this an empty one is forgotten: one in which nobody ever spoke, if there is such, then
                the one that has been empty for the longest.
            max_viewers: in all rooms together.
        """
        self._clock = clock
        self._linger = linger
        self._max_rooms = max_rooms
        self._max_viewers = max_viewers
        self._heartbeat = heartbeat
        self._rooms: dict[str, Room] = {}

    def listen(self, transcription: Transcription) -> None:
        """Let a session that begins be heard in the room it names, if any."""
        if transcription.start.room:
            self._room(transcription.start.room).speak(transcription)

    def __len__(self) -> int:
        return len(self._rooms)

    @property
    def viewers(self) -> int:
        """In all rooms together."""
        return sum(len(room.viewers) for room in self._rooms.values())

    def watch(self, name: str, viewer: Screen) -> Room:
        """Show a room to one more viewer.

        Raises:
            RefusalError: there are too many.
        """
        if self.viewers >= self._max_viewers:
            raise RefusalError("capacity", f"all {self._max_viewers} viewers' places are taken; try again later")
        room = self._room(name)
        room.watch(viewer)
        return room

    def transcript(self, name: str) -> Sequence[AttributedUtterance] | None:
        """Return what was said in a room so far; None where nobody ever spoke."""
        room = self._rooms.get(name)
        return room.utterances if room is not None and room.opened is not None else None

    def history(self, name: str, before: int | None, limit: int) -> RoomHistory | None:
        """See `Room.history`; None where there is no such room."""
        room = self._rooms.get(name)
        return None if room is None else room.history(before, limit)

    def tick(self, now: float) -> float:
        """Say that the server lives, forget rooms that nobody came back to, and return when to do so again."""
        for room in list(self._rooms.values()):
            room.show_live()
            if _empty(room) and room.empty_since + self._linger <= now:
                del self._rooms[room.name]
        return now + self._heartbeat

    def _room(self, name: str) -> Room:
        if name not in self._rooms:
            empty = [room for room in self._rooms.values() if _empty(room)]
            if len(self._rooms) >= self._max_rooms and empty:
                forgotten = min(empty, key=lambda room: (room.opened is not None, room.empty_since))
                del self._rooms[forgotten.name]
            self._rooms[name] = Room(name, self._clock)
        return self._rooms[name]


def _empty(room: Room) -> bool:
    return not (room.speakers or room.viewers)
