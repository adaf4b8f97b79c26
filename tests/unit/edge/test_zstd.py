"""Claims about `proxy.edge.zstd`: what goes in comes out, and nothing else ever does."""

from __future__ import annotations

import subprocess
import sys

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.policy import BODY_BYTES_MAX
from proxy.edge.zstd import compress, decompress

BODY = b'{"Item":{"pk":{"S":"a"},"text":{"S":"' + b"to be or not to be " * 50 + b'"}}}'


@given(st.binary(max_size=400).map(lambda seed: seed * 5))
def test_what_was_compressed_comes_back(body: bytes) -> None:
    """A frame is smaller than its body and holds exactly it."""
    frame = compress(body)
    if frame is not None:
        assert len(frame) < len(body)
        assert decompress(frame) == body


@pytest.mark.parametrize("body", [b"", b"{}", b'{"Item":{"pk":{"S":"a"}}}'])
def test_what_does_not_get_smaller_is_not_compressed(body: bytes) -> None:
    """A frame costs a dozen bytes by itself."""
    assert compress(body) is None


@given(st.binary(max_size=60))
def test_any_bytes_are_a_frame_or_damage(raw: bytes) -> None:
    """Whatever a record holds, nothing is raised."""
    assert isinstance(decompress(raw), bytes | None)


def test_a_damaged_frame_is_none() -> None:
    """Cut short, followed by more, or nonsense behind a good head: none is content."""
    frame = compress(BODY)
    assert frame is not None
    damaged = [b"", frame[:4], frame[:-1], frame + b"x", frame[:8] + b"\xff" * (len(frame) - 8)]
    assert [decompress(each) for each in damaged] == [None] * len(damaged)


def test_a_frame_larger_than_a_body_may_be_is_none() -> None:
    """The bound is the last size that is decompressed."""
    largest = compress(bytes(BODY_BYTES_MAX))
    too_large = compress(bytes(BODY_BYTES_MAX + 1))
    assert largest is not None
    assert too_large is not None
    assert decompress(largest) == bytes(BODY_BYTES_MAX)
    assert decompress(too_large) is None


def test_a_frame_that_does_not_tell_its_size_is_none() -> None:
    """It could be of any size."""
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(BODY)
    assert decompress(frame) is None


def test_the_library_is_not_loaded_before_it_is_needed() -> None:
    """A process that compresses nothing and meets no frame starts without it."""
    program = "import sys, proxy.services; sys.exit('zstandard' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
