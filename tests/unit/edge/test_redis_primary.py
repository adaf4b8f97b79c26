"""What a connection knows of its server."""

from __future__ import annotations

import pytest

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.store_fitness import StoreTraits
from proxy.core.values import INCARNATION_BYTES, Incarnation
from proxy.edge.redis_primary import PrimaryView, parse_info, parse_lag

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


def test_traits_are_what_the_server_tells() -> None:
    """All of it, or None where it says nothing that can be read."""
    told = info(replid2="c" * 40) + (
        b"maxmemory:1024\r\nmaxmemory_policy:volatile-lru\r\nconnected_slaves:2\r\n"
        b"min_slaves_good_slaves:1\r\n"
    )
    assert parse_info(told, lag_s_max=7.0).traits == StoreTraits(
        1024, "volatile-lru", 2, True, True, 7.0
    )
    silent = StoreTraits(None, None, None, False, False, None)
    assert parse_info(info()).traits == silent
    assert parse_info(info() + b"maxmemory:none\r\n").traits == silent


@pytest.mark.parametrize(
    ("reply", "lag_s_max"),
    [
        ({b"min-replicas-max-lag": b"10"}, 10.0),
        ([b"min-replicas-max-lag", b"5"], 5.0),
        ({}, None),
        ([b"min-replicas-max-lag", b"soon"], None),
        (ValueError("denied"), None),
    ],
)
def test_the_lag_is_read_from_either_protocol(reply: object, lag_s_max: float | None) -> None:
    """A map or a list; a refusal or nonsense tells nothing."""
    assert parse_lag(reply) == lag_s_max


def test_a_primary_settles_when_its_whole_time_has_passed() -> None:
    """Counted as the gate is; a view that says nothing of it is settled."""
    assert view().settled(100.0)
    new = PrimaryView(Incarnation(b"12345678"), 100.0, 100.25, 5_000, 30.0, 3.0)
    assert not new.settled(104.0)
    assert new.settled(104.1)
    assert not new.gate_open(104.1)


def view(*, gate_in_s: float = 0.0) -> PrimaryView:
    return PrimaryView(Incarnation(b"12345678"), 100.0, 100.25, 5_000, gate_in_s)


def test_the_stores_clock_is_never_taken_for_earlier_than_it_is() -> None:
    """It counts from before the heartbeat was sent, rounded up."""
    assert view().store_now_ms(100.0) == 5_001
    assert view().store_now_ms(100.5) == 5_501


def test_the_stores_clock_has_passed_what_it_showed_since_the_answer_came() -> None:
    """It counts from when the answer was there, rounded down: it may have run on longer."""
    assert view().store_passed_ms(100.25) == 5_000
    assert view().store_passed_ms(100.5) == 5_250


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
