"""What a connection knows of its server."""

from __future__ import annotations

import pytest

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.values import INCARNATION_BYTES, Incarnation
from proxy.edge.redis_primary import PrimaryView, parse_info

NEVER = "0" * 40


def info(
    *, run_id: str = "a" * 40, replid: str = "b" * 40, replid2: str = NEVER, role: str = "master"
) -> bytes:
    fields = {
        "run_id": run_id,
        "uptime_in_seconds": "61",
        "role": role,
        "master_replid": replid,
        "master_replid2": replid2,
    }
    lines = "\r\n".join(f"{name}:{text}" for name, text in fields.items())
    return f"# Server\r\n{lines}\r\n".encode()


def test_an_incarnation_changes_with_each_start_and_each_promotion() -> None:
    """`run_id` and `master_replid` both name it, nothing else does."""
    first = parse_info(info()).incarnation
    assert len(first) == INCARNATION_BYTES
    assert parse_info(info()).incarnation == first
    assert parse_info(info(run_id="c" * 40)).incarnation != first
    assert parse_info(info(replid="c" * 40)).incarnation != first
    assert parse_info(info(replid2="c" * 40)).incarnation == first


def test_uptime_counts_only_for_a_server_that_was_never_promoted() -> None:
    """A promotion has no time stamp, so it counts as just now; an uptime is rounded down."""
    assert parse_info(info()).primary_for_s == 60.0
    assert parse_info(info(replid2="c" * 40)).primary_for_s == 0.0
    assert parse_info(b"role:master\r\nrun_id:x\r\n").primary_for_s == 0.0


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (info(role="slave"), "not a primary"),
        (b"", "not a primary"),
        (b"role:master\r\n", "hides its run_id"),
        (b"\xff\xfe", "not a primary"),
    ],
)
def test_a_server_that_is_no_primary_or_nameless_is_refused(reply: bytes, reason: str) -> None:
    """Only a primary that says who it is may be used."""
    with pytest.raises(StoreUnavailable, match=reason) as refused:
        parse_info(reply)
    assert refused.value.failure is StoreFailure.REFUSED


def view(*, gate_in_s: float = 0.0) -> PrimaryView:
    return PrimaryView(Incarnation(b"12345678"), 100.0, 5_000, gate_in_s)


def test_the_stores_clock_is_never_taken_for_earlier_than_it_is() -> None:
    """It counts from before the heartbeat was sent, rounded up."""
    assert view().store_now_ms(100.0) == 5_001
    assert view().store_now_ms(100.5) == 5_501


def test_a_gate_opens_only_when_its_whole_time_has_passed() -> None:
    """Counted from before the heartbeat was sent, with a second to spare."""
    assert view().gate_open(100.0)
    assert not view(gate_in_s=10.0).gate_open(100.0)
    assert not view(gate_in_s=10.0).gate_open(111.0)
    assert view(gate_in_s=10.0).gate_open(111.1)


def test_a_proof_ages_from_before_it_was_asked_for() -> None:
    """Up to the bound it counts, past it no more."""
    assert view().proven(103.0, 3.0)
    assert not view().proven(103.1, 3.0)


def test_a_nodes_configuration_epoch_names_it_too() -> None:
    """A node that took slots over is another; how long it has had them nobody knows."""
    first, second = (parse_info(info(), b"cluster_my_epoch:%d\r\n" % epoch) for epoch in (1, 2))
    assert first.incarnation != second.incarnation
    assert first.incarnation != parse_info(info()).incarnation
    assert first.primary_for_s == 0.0
    with pytest.raises(StoreUnavailable, match="hides its configuration epoch"):
        parse_info(info(), b"cluster_state:ok\r\n")
