"""Every error that parastream raises on purpose.

ParastreamError
├── ModelError                 something is wrong with a model
│   ├── CheckpointError        the weights are damaged, incomplete or of other shapes
│   │   └── ModelConfigError   a configuration, vocabulary or CMVN file cannot be used
│   ├── HubError               a model name is unknown or its files cannot be fetched
│   │   └── UnreachableHubError  there is no network
│   └── LanguageModelError     a language model cannot be read or trained
├── HotwordError               a list of hotwords cannot be used
├── AudioError                 audio bytes or samples that cannot be used
├── ReplacementError           a rule for replacing words cannot be read
├── NoRoomError                a GPU has no memory for what another utterance remembers
├── CapacityError              the engine cannot serve another session in real time
└── EngineError                the engine has stopped or failed

Each message says what was wrong and what is allowed.
"""

from __future__ import annotations


class ParastreamError(Exception):
    """Base of all errors that parastream raises on purpose."""


class ModelError(ParastreamError):
    """Something is wrong with a model."""


class CheckpointError(ModelError):
    """A model directory cannot be used: its weights are damaged, incomplete or of other shapes than it says."""


class ModelConfigError(CheckpointError):
    """A model directory's configuration, token list or CMVN file cannot be used."""


class HubError(ModelError):
    """A model name is unknown or its files cannot be fetched."""


class UnreachableHubError(HubError):
    """No hub answers: there is no network, or none that leads there."""


class LanguageModelError(ModelError):
    """A language model's file cannot be used, or none can be trained from a text."""


class HotwordError(ParastreamError):
    """A list of hotwords cannot be used."""


class AudioError(ParastreamError):
    """Audio bytes or samples that cannot be used."""


class ReplacementError(ParastreamError):
    """A rule for replacing words cannot be read."""


class NoRoomError(ParastreamError):
    """A GPU has no memory for what another utterance remembers."""


class CapacityError(ParastreamError):
    """The engine cannot serve another session in real time."""


class EngineError(ParastreamError):
    """The engine has stopped or failed."""
