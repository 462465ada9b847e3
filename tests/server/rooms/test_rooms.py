"""Caption rooms: as a mapping, and over real sockets."""

from __future__ import annotations

import asyncio
from typing import Any, cast
from urllib.parse import quote

import msgspec
import pytest
import webvtt
from parastream.server.app import Server
from parastream.server.rooms.rooms import LINES_SHOWN, Rooms
from parastream.server.rooms.viewer import Viewer
from parastream.server.sessions.transcription import Transcription
from parastream.server.wire.messages import ROOMS_PATH, Error, RoomHistory, RoomMessage, Start
from parastream.server.wire.refusals import RefusalError
from parastream.streaming.events import Event, Final, Partial, SessionEnded, SpeechEnded, SpeechStarted, Word
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from ..fakes import FakeEngine, FakeStream, admission, asynchronous, connected, get, metrics, receive_ready, serving


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Hall:
    """Rooms with scripted speakers."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        limits = {"heartbeat": 20.0, "linger": 60.0, "max_rooms": 3, "max_viewers": 10}
        self.rooms = Rooms(self.clock, **(limits | settings))
        self.engine = FakeEngine()
        self.admission = admission(self.engine)

    def speak(self, room: str, **start: Any) -> tuple[Transcription, list[FakeStream]]:
        before = len(self.engine.streams)
        transcription = self.admission.begin(Start(room=room, **start), lambda event: None, "speaker")
        self.rooms.listen(transcription)
        return transcription, self.engine.streams[before:]

    def watch(self, room: str) -> Viewer:
        viewer = Viewer(self.rooms, room, name="viewer", max_unsent=5, refuse=self.admission.refuse)
        viewer.start()
        return viewer


def told(viewer: Viewer) -> list[Any]:
    """What waits for a viewer."""
    found = []
    while (text := viewer.take()) is not None:
        found.append(msgspec.json.decode(text))
    return found


def said(index: int, text: str, start: float = 1.0) -> list[Event]:
    word = Word(text, start, start + 1, 0.5)
    return [
        SpeechStarted(index, start),
        Partial(index, start, start + 0.5, text[:2], text[2:], (word,)),
        SpeechEnded(index, start + 1, "silence"),
        Final(index, start, start + 1, text, (word,), 0.5),
    ]


def test_a_viewer_sees_what_is_said() -> None:
    hall = Hall()
    viewer = hall.watch("talk")
    (state,) = told(viewer)
    assert len(state.pop("id")) == 16
    assert state == {"type": "room", "room": "talk", "live": False, "lines": [], "earlier": 0}
    _, (stream,) = hall.speak("talk", labels=("Ann",))
    assert told(viewer) == [{"type": "live", "live": True}]
    stream.tell(said(0, "hello")[:2])
    line = {"line": 0, "speaker": "Ann", "start": 1.0}
    assert told(viewer) == [{"type": "partial", **line, "end": 1.5, "stable": "he", "draft": "llo"}]
    stream.tell(said(0, "hello")[2:])
    assert told(viewer) == [{"type": "final", **line, "end": 2.0, "text": "hello"}]
    stream.tell([SessionEnded(3.0)])
    assert told(viewer) == [{"type": "live", "live": False}]


def test_who_comes_late_gets_the_last_lines_and_the_newest_partial() -> None:
    hall = Hall()
    _, (stream,) = hall.speak("talk")
    for index in range(LINES_SHOWN + 3):
        stream.tell(said(index, f"line {index}"))
    stream.tell(said(LINES_SHOWN + 3, "going on")[:2])
    viewer = hall.watch("talk")
    state, partial = told(viewer)
    assert state["live"] is True
    assert [line["text"] for line in state["lines"]] == [f"line {index}" for index in range(3, LINES_SHOWN + 3)]
    assert (partial["type"], partial["line"], partial["draft"]) == ("partial", LINES_SHOWN + 3, "ing on")
    assert state["earlier"] == 3
    assert len(hall.rooms.transcript("talk") or ()) == LINES_SHOWN + 3


def test_earlier_lines_come_page_by_page() -> None:
    hall = Hall()
    _, (stream,) = hall.speak("talk")
    for index in range(10):
        stream.tell(said(index, "" if index == 5 else f"line {index}"))  # its number is used up all the same
    assert hall.rooms.history("nobody", None, 3) is None
    found, before = [], None
    while (page := hall.rooms.history("talk", before, 4)) is not None and page.lines:
        found.append(([line.line for line in page.lines], page.earlier))
        before = page.lines[0].line
    assert found == [([6, 7, 8, 9], 5), ([1, 2, 3, 4], 1), ([0], 0)]


def test_a_room_that_was_forgotten_has_another_id_when_it_comes_again() -> None:
    hall = Hall(max_rooms=1)
    ids = []
    for name in ("talk", "other", "talk"):
        hall.speak(name)[0].end()
        viewer = hall.watch(name)
        ids.append(told(viewer)[0]["id"])
        viewer.lost(finished=True, why="1000")
    assert len(set(ids)) == 3


def test_times_of_a_later_speaker_are_whole_milliseconds() -> None:
    hall = Hall()
    hall.speak("talk")
    hall.clock.now += 0.1
    _, (stream,) = hall.speak("talk")
    stream.tell(said(0, "hello", start=0.2))
    (line,) = hall.rooms.transcript("talk") or ()
    assert (line.start, line.end) == (0.3, 1.3)
    assert [(word.start, word.end) for word in line.words] == [(0.3, 1.3)]


def test_a_slow_viewer_gets_only_the_newest_of_a_line() -> None:
    hall = Hall()
    _, (stream,) = hall.speak("talk")
    viewer = hall.watch("talk")
    stream.tell([SpeechStarted(0, 0.0)])
    for end in (1.0, 2.0, 3.0):
        stream.tell([Partial(0, 0.0, end, "", "text", ())])
    assert [message.get("end") for message in told(viewer)] == [None, 3.0]
    stream.tell([Partial(0, 0.0, 4.0, "", "text", ()), Final(0, 0.0, 4.0, "text", (), 0.5)])
    assert [message["type"] for message in told(viewer)] == ["final"]


def test_a_viewer_who_never_reads_is_cut_off_and_others_are_not() -> None:
    hall = Hall()
    _, (stream,) = hall.speak("talk")
    stuck, reader = hall.watch("talk"), hall.watch("talk")
    seen = []
    for index in range(10):
        stream.tell(said(index, "words"))
        seen += told(reader)
    assert [message["type"] for message in seen] == ["room", *10 * ["final"]]
    assert stuck.aborted
    assert stuck.ending is not None
    assert stuck.ending[0] == 1008
    assert [message["code"] for message in told(stuck)] == ["slow_client"]


def test_what_turns_out_to_be_nothing_vanishes() -> None:
    hall = Hall()
    transcription, (stream,) = hall.speak("talk")
    viewer = hall.watch("talk")
    stream.tell([SpeechStarted(0, 0.0), Final(0, 0.0, 1.0, "", (), 0.0)])
    assert [message["type"] for message in told(viewer)] == ["room"]  # nothing was shown either
    stream.tell(said(1, "noise")[:2])
    told(viewer)
    stream.tell([Final(1, 1.0, 2.0, "", (), 0.0)])
    assert [(message["type"], message["line"], message["text"]) for message in told(viewer)] == [("final", 1, "")]
    stream.tell(said(2, "cut off")[:2])
    told(viewer)
    transcription.abort(RefusalError("internal", "broken"))
    assert [(message["type"], message.get("text")) for message in told(viewer)] == [("final", ""), ("live", None)]
    assert hall.rooms.transcript("talk") == []


def test_speakers_share_one_clock_and_one_count_of_lines() -> None:
    hall = Hall()
    _, (first,) = hall.speak("talk")
    viewer = hall.watch("talk")
    hall.clock.now += 10.0
    _, channels = hall.speak("talk", channels=2, channel="all")
    first.tell(said(0, "one", start=12.0))
    channels[1].tell(said(0, "two", start=1.5))
    first.tell([SessionEnded(20.0)])
    finals = [message for message in told(viewer) if message["type"] == "final"]
    assert [(f["line"], f["speaker"], f["start"]) for f in finals] == [(0, "", 12.0), (1, "Channel 2", 11.5)]
    transcript = hall.rooms.transcript("talk")
    assert transcript is not None
    assert [utterance.words[0].start for utterance in transcript] == [12.0, 11.5]
    for stream in channels:
        assert told(viewer) == []  # still live
        stream.tell([SessionEnded(10.0)])
    assert told(viewer) == [{"type": "live", "live": False}]


def test_rooms_are_forgotten_some_time_after_the_last_one_left() -> None:
    hall = Hall()
    _, (stream,) = hall.speak("talk")
    viewer = hall.watch("talk")
    stream.tell([*said(0, "words"), SessionEnded(5.0)])
    hall.clock.now += 61
    hall.rooms.tick(hall.clock.now)
    assert hall.rooms.transcript("talk")  # somebody is there
    viewer.lost(finished=True, why="1000")
    hall.clock.now += 60
    hall.rooms.tick(hall.clock.now)
    assert hall.rooms.transcript("talk") is None


def test_the_room_that_was_empty_for_the_longest_makes_place() -> None:
    hall = Hall()
    for name in ("a", "b", "c"):
        _, (stream,) = hall.speak(name)
        stream.tell([SessionEnded(1.0)])
        hall.clock.now += 1
    hall.speak("d")
    assert [hall.rooms.transcript(name) is None for name in "abcd"] == [True, False, False, False]


def test_a_room_outlives_its_last_viewer_too() -> None:
    hall = Hall(linger=60.0)
    transcription, (stream,) = hall.speak("talk")
    stream.tell(said(0, "hello"))
    viewer = hall.watch("talk")
    transcription.end()
    hall.clock.now += 500
    viewer.lost(finished=True, why="1000")  # to reload the page, say
    hall.clock.now += 59
    hall.rooms.tick(hall.clock.now)
    assert hall.rooms.transcript("talk")
    hall.clock.now += 1
    hall.rooms.tick(hall.clock.now)
    assert hall.rooms.transcript("talk") is None


def test_rooms_in_which_nobody_spoke_make_place_first() -> None:
    hall = Hall(max_rooms=2)
    transcription, _ = hall.speak("talk")
    transcription.end()
    for name in ("a", "b", "c"):
        hall.clock.now += 1
        viewer = hall.watch(name)
        viewer.lost(finished=True, why="1000")
    assert len(hall.rooms) == 2
    assert hall.rooms.transcript("talk") == []


def test_there_is_a_limit_of_viewers() -> None:
    hall = Hall(max_viewers=1)
    hall.watch("talk")
    viewer = hall.watch("other")
    assert viewer.ending is not None
    assert viewer.ending.code == 1013
    assert told(viewer)[0]["message"] == "all 1 viewers' places are taken; try again later"
    viewer.lost(finished=True, why="1013")


# --- over sockets ----------------------------------------------------------------------------


def room_url(server: Server, room: str, query: str = "") -> str:
    return f"ws://127.0.0.1:{server.port}{ROOMS_PATH}{room}{query}"


@asynchronous
async def test_a_room_over_sockets() -> None:
    engine = FakeEngine()
    async with serving(engine) as server:
        async with connect(room_url(server, "talk"), subprotocols=[cast(Any, "parastream.room.v1")]) as viewer:
            assert viewer.subprotocol == "parastream.room.v1"
            messages = [msgspec.json.decode(await viewer.recv(), type=RoomMessage)]
            async with connected(server, '{"type":"start","room":"talk"}') as speaker:
                await receive_ready(speaker)
                engine.streams[0].tell(said(0, "Hello, world."))
                messages += [msgspec.json.decode(await viewer.recv(), type=RoomMessage) for _ in range(2)]
                assert [type(message).__name__ for message in messages] == ["RoomState", "RoomLive", "RoomFinal"]
                status, text = await get(server, "/live/talk.vtt")
                assert status == 200
                assert [(c.start, c.text) for c in webvtt.from_string(text).captions] == [
                    ("00:00:01.000", "Hello, world.")
                ]
                assert (await get(server, "/live/talk.txt"))[1] == "Hello, world.\n"
                assert (await get(server, "/live/talk.srt"))[1].startswith("1\n00:00:01,000 --> ")
                assert msgspec.json.decode((await get(server, "/live/talk.json"))[1])["text"] == "Hello, world."
            await viewer.send("hello")
            answer = msgspec.json.decode(await viewer.recv())
            while answer["type"] == "live":
                answer = msgspec.json.decode(await viewer.recv())
            assert (answer["type"], answer["code"]) == ("error", "unexpected_message")
            await viewer.wait_closed()
            assert viewer.close_code == 1002
        status, text = await get(server, "/live/nobody.vtt")
        assert (status, msgspec.json.decode(text, type=Error).message) == (
            404,
            "nobody has spoken in the room 'nobody'",
        )


@asynchronous
async def test_earlier_lines_over_http() -> None:
    engine = FakeEngine()
    async with serving(engine, token="speak", viewer_token="watch") as server:
        path = f"{ROOMS_PATH}{quote('会议室')}"
        start, token = '{"type":"start","room":"会议室"}', {"Authorization": "Bearer speak"}
        async with (
            connect(f"ws://127.0.0.1:{server.port}{path}?token=watch") as viewer,
            connected(server, start, additional_headers=token) as speaker,
        ):
            await receive_ready(speaker)
            for index in range(5):
                engine.streams[0].tell(said(index, f"line {index}"))
            while msgspec.json.decode(await viewer.recv()).get("text") != "line 4":
                pass
            assert (await get(server, path))[0] == 401
            status, text = await get(server, f"{path}?token=watch&before=4&limit=2")
            history = msgspec.json.decode(text, type=RoomHistory)
            assert (status, history.room, history.earlier) == (200, "会议室", 2)
            assert [line.text for line in history.lines] == ["line 2", "line 3"]
            for query in ("before=-1", "before=x", "limit=0", "limit=501", "before=٣", "limit=" + 20 * "9"):
                status, text = await get(server, f"{path}?token=watch&{quote(query, safe='=')}")
                assert status == 400
                assert "is a whole number" in msgspec.json.decode(text, type=Error).message
        assert (await get(server, f"{ROOMS_PATH}nobody?token=watch"))[0] == 404


@asynchronous
async def test_tokens_of_speakers_and_viewers() -> None:
    async with serving(FakeEngine(), token="speak", viewer_token="watch") as server:
        for token in ("speak", "watch"):
            async with connect(room_url(server, "talk", f"?token={token}")) as viewer:
                assert msgspec.json.decode(await viewer.recv(), type=RoomMessage)
            assert (await get(server, f"/live/talk.txt?token={token}"))[0] == 404
        for url in (room_url(server, "talk"), server.url, f"{server.url}?token=watch"):
            with pytest.raises(InvalidStatus) as caught:
                await connect(url).__aenter__()
            assert caught.value.response.status_code == 401
        assert (await get(server, "/live/talk.txt"))[0] == 401
        assert (await get(server, "/v1/info?token=watch"))[0] == 401
        assert (await get(server, "/v1/info?token=speak"))[0] == 200


@asynchronous
async def test_viewers_are_told_that_the_server_lives_and_that_it_stops() -> None:
    async with serving(FakeEngine(), ping_interval=0.05) as server:
        viewer = await connect(room_url(server, "talk"))
        kinds = [msgspec.json.decode(await viewer.recv())["type"] for _ in range(4)]
        assert kinds == ["room", "live", "live", "live"]
        waiting = asyncio.create_task(viewer.wait_closed())
    await waiting
    assert viewer.close_code == 1001


@asynchronous
async def test_a_viewer_who_leaves_is_forgotten() -> None:
    async with serving(FakeEngine()) as server:
        async with connect(room_url(server, "talk")) as viewer:
            await viewer.recv()
            assert (await metrics(server))["parastream_viewers"] == 1
        while (await metrics(server))["parastream_viewers"]:
            await asyncio.sleep(0.005)
        with pytest.raises(ConnectionClosed):
            await viewer.recv()
