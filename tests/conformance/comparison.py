"""Compares the proxy's answer with the engine's: status, the headers that matter, the body."""

from __future__ import annotations

from typing import Any, Final

from tests.conformance.accepted_differences import Step, accepted
from tests.support.dynamo_wire import Reply

COMPARED_HEADERS: Final = ("content-type", "content-encoding", "location", "allow")


def substance(reply: Reply, *, exact: bool) -> dict[str, Any]:
    """Return what a client sees of an answer: `exact` takes the body's bytes, not its JSON."""
    seen: dict[str, Any] = {name: reply.headers.get(name) for name in COMPARED_HEADERS}
    body = reply.body if exact else reply.content
    return seen | {"status": reply.status, "body": body}


def assert_conforms(engine: str, case: str, step: Step, *, direct: Reply, proxied: Reply) -> None:
    """Check the proxy's answer; AssertionError says in what it differs.

    Bytes count where the proxy passes upstream's answer on, JSON where it made the answer itself.
    """
    assert proxied.crc_is_right, "x-amz-crc32 is not that of the body"
    assert "x-amz-crc32" in proxied.headers or "x-amz-crc32" not in direct.headers
    assert len(proxied.headers.get("x-amzn-requestid", "")) > 0
    differences = accepted(engine, case, step)
    exact = "fwd=bypass" in proxied.cache_status and not differences
    expected = direct
    for difference in differences:
        expected = difference.expected(expected)
    assert substance(proxied, exact=exact) == substance(expected, exact=exact)
    if differences:
        shows = substance(expected, exact=False) != substance(direct, exact=False)
        assert shows, f"no longer a difference: {differences[0].reason}"
