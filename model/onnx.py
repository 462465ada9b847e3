"""onnxruntime, which must not phone home.

From version 1.29 on its published builds keep a device id and a database of events in the user's cache directory, and
send them to their maker, unless an environment variable forbids it before onnxruntime is imported.
"""

from __future__ import annotations

import os
from types import ModuleType


def import_onnxruntime() -> ModuleType:
    """Import onnxruntime with its telemetry off. Somebody who has set `ORT_DISABLE_TELEMETRY` has the last word."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    if os.environ["ORT_DISABLE_TELEMETRY"] == "1" and hasattr(onnxruntime, "disable_telemetry_events"):
        onnxruntime.disable_telemetry_events()  # had it been imported before
    module: ModuleType = onnxruntime
    return module
