"""Audio in, events out: one state machine for each speaker, and the engine that serves many."""

from parastream.streaming.audio import AudioFormat, Encoding
from parastream.streaming.endpoint import EndpointConfig
from parastream.streaming.engine import Engine
from parastream.streaming.engine_config import EngineConfig
from parastream.streaming.live import LiveStream
from parastream.streaming.observer import LoggingObserver, Observer
from parastream.streaming.runner import Models
from parastream.streaming.session import Session, SessionConfig
from parastream.streaming.stats import EngineStats
from parastream.streaming.stream import Stream
from parastream.streaming.transcriber import Transcriber
from parastream.streaming.transcript import Transcript
from parastream.streaming.vad import Vad

__all__ = [
    "AudioFormat",
    "Encoding",
    "EndpointConfig",
    "Engine",
    "EngineConfig",
    "EngineStats",
    "LiveStream",
    "LoggingObserver",
    "Models",
    "Observer",
    "Session",
    "SessionConfig",
    "Stream",
    "Transcriber",
    "Transcript",
    "Vad",
]
