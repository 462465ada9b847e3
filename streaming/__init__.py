"""Audio in, events out: one state machine for each speaker, and the engine that serves many."""

from .audio import AudioFormat, Encoding
from .endpoint import EndpointConfig
from .engine import Engine, EngineConfig, EngineStats, Stream
from .runner import Models
from .session import Session, SessionConfig
from .transcriber import Transcriber, Transcript
from .vad import Vad

__all__ = [
    "AudioFormat",
    "Encoding",
    "EndpointConfig",
    "Engine",
    "EngineConfig",
    "EngineStats",
    "Models",
    "Session",
    "SessionConfig",
    "Stream",
    "Transcriber",
    "Transcript",
    "Vad",
]
