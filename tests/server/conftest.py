"""The engine that tests on real speech share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from parastream.streaming import Engine

from ..conftest import running_engine


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The engine on the default models, which refuses nobody however busy the machine is. No test changes it."""
    with running_engine() as engine:
        yield engine
