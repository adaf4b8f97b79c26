"""Load the Lambda function as its runtime does: a file, and a context that tells its time."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any, Final

from tests.support.dynamo_wire import Json

HANDLER: Final = Path(__file__).parents[2] / "deploy" / "lambda" / "handler.py"
EVENTS: Final = Path(__file__).parent / "lambda_events"


class Invocation:
    """The context of an invocation that may take so long, and a second more for its answer."""

    def __init__(self, seconds: float = 20.0) -> None:
        self._seconds = seconds + 1.0

    def get_remaining_time_in_millis(self) -> int:
        """Return the time that is left."""
        return round(self._seconds * 1000)


def load_handler() -> Any:
    """Return the module."""
    spec = importlib.util.spec_from_file_location("lambda_handler", HANDLER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lambda_event(name: str) -> Json:
    """Return an invocation as Lambda makes it: dynamodb, time_to_live or kinesis."""
    content: Json = json.loads((EVENTS / f"{name}.json").read_text())
    return content
