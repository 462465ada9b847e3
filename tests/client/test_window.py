"""The send window, against a server that acknowledges late and loses connections anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parastream.client.errors import ClientError
from parastream.client.window import LARGEST_MESSAGE, SendWindow
from parastream.server.wire.messages import Flush, Hotword, SetHotwords

steps = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=20),  # the caller sends audio
        st.just("flush"),
        st.integers(0, 3),  # the caller sends hotwords
        st.just("transmit"),  # a message arrives
        st.just("lose"),  # a message is sent and does not arrive: the connection is broken
        st.just("cut"),  # the connection breaks behind what has arrived
        st.just("acknowledge"),
    ),
    max_size=60,
)


class Receiver:
    """What has arrived at a server: audio with the hotwords that count there, and the places of flushes in it."""

    def __init__(self) -> None:
        self.audio = b""
        self.flushes: list[int] = []
        self.hotwords: tuple[str | Hotword, ...] = ()
        self.listened_for: list[tuple[str | Hotword, ...]] = []  # for each byte

    def receive(self, message: memoryview | Flush | SetHotwords | None) -> None:
        match message:
            case Flush():
                self.flushes.append(len(self.audio))
            case SetHotwords():
                self.hotwords = message.hotwords
            case memoryview():
                self.audio += message
                self.listened_for += [self.hotwords] * len(message)


@given(steps)
def test_everything_arrives_once_and_in_order_whatever_is_cut(steps: list[bytes | str | int]) -> None:
    window, server, sent = SendWindow(10), Receiver(), Receiver()
    for step in steps:
        match step:
            case bytes():
                window.add_audio(step)
                sent.receive(memoryview(step))
            case "flush":
                window.add(Flush())
                sent.receive(Flush())
            case int():
                window.add(SetHotwords((str(step),)))
                sent.receive(SetHotwords((str(step),)))
            case "transmit":
                server.receive(window.take())
            case "lose" | "cut":
                lost = window.take() if step == "lose" else None
                resent = window.rewind(len(server.audio), len(server.flushes))
                assert resent == (len(lost) if isinstance(lost, memoryview) else 0)
            case "acknowledge":
                window.acknowledge(len(server.audio))
        assert window.acknowledged <= len(server.audio) <= window.accepted == len(sent.audio)
        assert window.full == (window.accepted - window.acknowledged >= 10)
    while (message := window.take()) is not None:
        server.receive(message)
    assert (server.audio, server.flushes) == (sent.audio, sent.flushes)
    assert (server.listened_for, server.hotwords) == (sent.listened_for, sent.hotwords)


def test_audio_is_sent_in_messages_that_servers_take() -> None:
    window = SendWindow(1)
    window.add_audio(bytes(LARGEST_MESSAGE + 1))
    messages = [window.take(), window.take(), window.take()]
    assert [message and len(message) for message in messages if not isinstance(message, Flush | SetHotwords)] == [
        LARGEST_MESSAGE,
        1,
        None,
    ]


def test_a_message_that_has_half_arrived_is_continued() -> None:
    window = SendWindow(1)
    window.add_audio(b"abcdef")
    window.take()
    assert window.rewind(4, 0) == 2
    rest = window.take()
    assert isinstance(rest, memoryview)
    assert rest.tobytes() == b"ef"


@pytest.mark.parametrize("total", [2, 7])
def test_a_server_that_counts_wrong_is_not_believed(total: int) -> None:
    window = SendWindow(1)
    window.add_audio(b"abc")
    window.add_audio(b"def")
    window.take()
    window.take()
    window.acknowledge(3)
    with pytest.raises(ClientError, match=f"the server has {total} bytes of audio; 6 were sent"):
        window.rewind(total, 0)
