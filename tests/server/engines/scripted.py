"""The process of an engine without models, for what happens around it: `python -m` this, a script and a socket."""

from __future__ import annotations

import asyncio
import socket
import sys

from parastream.model.computing import Computing
from parastream.model.replacements import Replacements
from parastream.server.engines.channel import (
    Cancel,
    Channel,
    End,
    Failed,
    Open,
    Ready,
    Refused,
    Setup,
    ToEngine,
    told,
)
from parastream.streaming import EngineStats
from parastream.streaming.events import Final, SessionEnded, SpeechEnded, SpeechStarted
from parastream.streaming.runner import Listener

EARS = (Listener("scripted", ("en",), partials=True, finals=True, computing=Computing("graphs", "int8")),)
READY = Ready("scripted", ("en",), EARS, "CPU", "none", EngineStats(capacity=2))


class Scripted:
    """Hears one utterance in all of a session's audio, named after its length."""

    def __init__(self, script: str) -> None:
        self.script = script
        self.audio: dict[int, int] = {}
        self.rules: dict[int, Replacements] = {}
        self.ended = asyncio.Event()
        self.channel = Channel(ToEngine, self.receive, self.hear, self.ended.set)

    def hear(self, stream: int, data: bytes) -> None:
        if data == b"die!":
            sys.exit(3)
        if not self.audio[stream]:
            self.channel.send(told(stream, [SpeechStarted(0, 0.0)]))
        self.audio[stream] += len(data)

    def receive(self, message: ToEngine) -> None:
        match message:
            case Setup():
                if self.script == "broken":
                    self.channel.send(Failed("there is no such model"))
                    self.channel.close()
                else:
                    self.channel.send(READY)
            case Open():
                self.audio[message.stream] = 0
                self.rules[message.stream] = message.config.replacements
                if self.script == "refusing":
                    self.channel.send(Refused(message.stream, "unsupported", "the model does not stream"))
            case End():
                length = self.audio.pop(message.stream)
                words, _ = self.rules.pop(message.stream).apply([f"{length}", "bytes"])
                final = Final(0, 0.0, 1.0, " ".join(word.text for word in words), (), 0.5)
                self.channel.send(told(message.stream, [SpeechEnded(0, 1.0, "finish"), final, SessionEnded(1.0)]))
            case Cancel():
                self.audio.pop(message.stream, None)


async def serve(script: str, front: socket.socket) -> None:
    scripted = Scripted(script)
    await asyncio.get_running_loop().create_unix_connection(lambda: scripted.channel, sock=front)
    await scripted.ended.wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], socket.socket(fileno=int(sys.argv[2]))))
