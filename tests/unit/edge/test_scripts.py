"""The scripts' texts, and how a real store takes them."""

from __future__ import annotations

from contextlib import closing
from hashlib import sha1

import pytest

from proxy.edge.scripts import STEPS, load_script
from proxy.embedded.valkey import RunningStore, start_valkey
from tests.support.raw_store import RawStore


@pytest.mark.parametrize("step", STEPS)
def test_a_script_is_known_by_its_sha1(step: str) -> None:
    """The sha is that of the whole text, shared part included, and loading twice gives the same."""
    script = load_script(step)
    assert script.sha == sha1(script.text, usedforsecurity=False).hexdigest().encode()
    assert b"local PENDING_MAX" in script.text
    assert load_script(step) is script


@pytest.mark.parametrize("step", STEPS)
def test_only_fill_is_refused_when_the_store_is_full(step: str) -> None:
    """A full store must not refuse an invalidation."""
    first, _, _ = load_script(step).text.partition(b"\n")
    assert first == (b"#!lua" if step == "fill" else b"#!lua flags=allow-oom")


@pytest.mark.store
@pytest.mark.parametrize("kind", ["valkey", "redis7"])
def test_stores_compile_every_script(kind: str, request: pytest.FixtureRequest) -> None:
    """Both kinds of store take every script and give it the same sha."""
    running: RunningStore = request.getfixturevalue(kind)
    with RawStore(running.address) as raw:
        for step in STEPS:
            assert raw.run("SCRIPT", "LOAD", load_script(step).text) == load_script(step).sha


@pytest.mark.store
@pytest.mark.parametrize("step", STEPS)
def test_replicas_refuse_every_script(valkey: RunningStore, step: str) -> None:
    """Nothing of the protocol runs where it would be lost."""
    assert isinstance(valkey.address, tuple)
    with closing(start_valkey()) as replica, RawStore(replica.address) as raw:
        raw.run("REPLICAOF", *valkey.address)
        reply = raw.run("EVAL", load_script(step).text, 1, "key")
        assert isinstance(reply, Exception)
        assert "READONLY" in str(reply)
