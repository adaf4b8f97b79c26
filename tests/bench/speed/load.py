"""Asks as SDKs do, as fast as C can: wrk, and what one run of it found."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.bench.layouts import Shape, body_of
from tests.bench.speed.plan import Question
from tests.support.dynamo_wire import Call

ATTRIBUTES: Final = 5
DIGITS: Final = 10
TICKET_DIGITS: Final = 12
RUN_S_MAX: Final = 600.0
SIGNALLED_EVERY_S: Final = 0.5

_AGENT: Final = (
    "Boto3/1.43.0 md/Botocore#1.43.0 ua/2.1 os/linux#6.18 md/arch#x86_64 lang/python#3.11.7"
    " md/pyimpl#CPython m/b,Z,D cfg/retry-mode#standard Botocore/1.43.0"
)
_HOST: Final = "dynamodb.local:8000"

# A request is cut where its ticket and its key stand: as with every SDK no two requests have the
# same signature and invocation id, so nobody gains by comparing whole heads.
_LUA: Final = """
local questions = {{ {questions} }}
local keys, next_key, write_share, left = {keys}, {first_key} - 1, {write_share}, {count}
local scan, paced_ms, format, random = {scan}, {paced_ms}, string.format, math.random
math.randomseed({first_key} + 1)
local tickets = 0
function request()
  local question, key = questions[1], nil
  if write_share > 0 and random() < write_share then question = questions[2] end
  if scan then key = next_key; next_key = next_key + 1 else key = random(0, keys - 1) end
  tickets = tickets + 1
  local ticket = format("%0{ticket_digits}x", tickets)
  return question[1] .. ticket .. question[2] .. ticket .. question[3]
    .. format("%0{digits}d", key) .. question[4]
end
if paced_ms > 0 then
  function delay() return random(0, 2 * paced_ms) end
end
if left > 0 then
  function response()
    left = left - 1
    if left == 0 then io.write("enough\\n"); io.flush() end
  end
end
function done(summary, latency, requests)
  io.write(format('{{"requests":%d,"bytes":%d,"duration_us":%d,"errors":%d,"p50_us":%d,"p99_us":%d,'
    .. '"p999_us":%d}}\\n', summary.requests, summary.bytes, summary.duration,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status
    + summary.errors.timeout, latency:percentile(50), latency:percentile(99),
    latency:percentile(99.9)))
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """One run of wrk.

    Args:
        question: what requests ask for.
        table: about which.
        size_bytes: of an item's answer, about.
        connections: keep-alive connections.
        keys: distinct keys, for questions that choose one at random.
        first_key: of keys in their order, and the seed of chance.
        write_share: the share of writes.
        paced_ms: mean pause of a connection between two requests; 0 for none.
        count: end after so many answers; 0 for after `seconds`.
        seconds: how long.
    """

    question: Question
    table: str
    size_bytes: int
    connections: int
    keys: int
    first_key: int = 0
    write_share: float = 0.0
    paced_ms: int = 0
    count: int = 0
    seconds: float = RUN_S_MAX


@dataclass(frozen=True, slots=True)
class Found:
    """What wrk says of a run: answers and their bytes, its time, what failed, and latencies."""

    requests: int
    bytes: int
    duration_us: int
    errors: int
    p50_us: int
    p99_us: int
    p999_us: int

    @property
    def per_s(self) -> float:
        """Answers a second."""
        return 1e6 * self.requests / self.duration_us


def key_of(number: int) -> dict[str, Any]:
    """Return a primary key in DynamoDB JSON."""
    return {"pk": {"S": f"user#{number:0{DIGITS}d}"}}


def answer_of(size_bytes: int) -> bytes:
    """Return the body with which DynamoDB's stand-in answers a GetItem of this size."""
    return body_of(Shape(size_bytes, ATTRIBUTES))


def request_body(table: str, *, writes: bool, size_bytes: int, number: int) -> bytes:
    """Return the body of a GetItem, or of a PutItem of this size, spelled as boto3 does."""
    if not writes:
        return json.dumps({"TableName": table, "Key": key_of(number)}).encode()
    item = json.loads(answer_of(size_bytes))["Item"] | key_of(number)
    return json.dumps({"TableName": table, "Item": item}).encode()


def request_parts(table: str, *, writes: bool, size_bytes: int) -> list[str]:
    """Return a request as SDKs send it, cut where its two tickets and its key stand."""
    body = request_body(table, writes=writes, size_bytes=size_bytes, number=0)
    ticket = "T" * TICKET_DIGITS
    call = Call(
        "PutItem" if writes else "GetItem",
        body,
        headers=(
            ("User-Agent", _AGENT),
            ("Accept-Encoding", "identity"),
            ("amz-sdk-invocation-id", f"5b1c7a30-94d2-4d0f-8f1e-{ticket}"),
            ("amz-sdk-request", "attempt=1"),
        ),
    )
    fields = call.fields(_HOST) | {"Content-Length": str(len(body))}
    signature = fields["Authorization"]
    fields["Authorization"] = signature[:-TICKET_DIGITS] + ticket
    lines = [f"{name}: {text}\r\n" for name, text in fields.items()]
    raw = f"POST / HTTP/1.1\r\n{''.join(lines)}\r\n{body.decode()}"
    head, key, tail = raw.partition(f"user#{0:0{DIGITS}d}")
    assert key, "the request names its key"
    return [*f"{head}user#".split(ticket), tail]


def script_of(load: Load) -> str:
    """Return the Lua that makes wrk ask so."""
    asked = [load.question is Question.WRITE, *([True] if load.write_share else [])]
    questions = [
        request_parts(load.table, writes=writes, size_bytes=load.size_bytes) for writes in asked
    ]
    spelled = ("{" + ", ".join(map(_lua_text, parts)) + "}" for parts in questions)
    return _LUA.format(
        questions=", ".join(spelled),
        keys=load.keys,
        first_key=load.first_key,
        scan="true" if load.question is Question.NEW else "false",
        write_share=load.write_share,
        paced_ms=load.paced_ms,
        count=load.count,
        digits=DIGITS,
        ticket_digits=TICKET_DIGITS,
    )


def run_wrk(endpoint: str, load: Load, *, script: Path, pin: Callable[[int], None]) -> Found:
    """Run wrk against an endpoint, in one thread.

    Args:
        endpoint: URL.
        load: what to ask.
        script: a file to write its Lua into.
        pin: binds the process to its core.

    Raises:
        RuntimeError: wrk failed; with what it said.
    """
    script.write_text(script_of(load))
    # Ignored until wrk has a handler of its own: an early signal must not end it without a word.
    command = ["env", "--ignore-signal=INT", "wrk", "-t1", f"-c{load.connections}"]
    command += [f"-d{RUN_S_MAX:g}s", "--timeout", "20s", "-s", str(script), endpoint]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
    ) as wrk:
        pin(wrk.pid)
        heard = _first_words(wrk, load) + _ended(wrk)
    try:
        return Found(**json.loads(heard.splitlines()[-1]))
    except (ValueError, IndexError, TypeError) as error:
        raise RuntimeError(f"wrk against {endpoint} failed: {heard}") from error


def _first_words(wrk: subprocess.Popen[bytes], load: Load) -> str:
    """Wait until wrk has done what it should; return what it said so far."""
    assert wrk.stdout is not None, "asked for"
    heard = ""
    if load.count:
        while "enough" not in heard and (line := wrk.stdout.readline()):
            heard += line.decode()
    else:
        with suppress(subprocess.TimeoutExpired):  # as it should: it knows only whole seconds
            wrk.wait(load.seconds)
    return heard


def _ended(wrk: subprocess.Popen[bytes]) -> str:
    """Tell wrk to end, and return what it says then.

    Again and again: a signal that comes before it sleeps does not wake it up.
    """
    while True:
        wrk.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            return wrk.communicate(timeout=SIGNALLED_EVERY_S)[0].decode()


def _lua_text(text: str) -> str:
    """Spell a text as Lua does; JSON without escapes above ASCII is the same."""
    return json.dumps(text)
