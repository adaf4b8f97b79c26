"""Claims about compressed bodies: read whole within a bound, or not at all."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.content_coding import inflated

BYTES_MAX = 1_000


def raw_deflate(content: bytes) -> bytes:
    """Compress without zlib's header, as some clients take `deflate` to mean."""
    return zlib.compress(content, wbits=-zlib.MAX_WBITS)


COMPRESSIONS = {
    "gzip": ("gzip", gzip.compress),
    "zlib": ("deflate", zlib.compress),
    "raw": ("deflate", raw_deflate),
}
each_coding = pytest.mark.parametrize(
    ("coding", "compress"), COMPRESSIONS.values(), ids=COMPRESSIONS
)


@each_coding
@given(content=st.binary(max_size=BYTES_MAX))
def test_content_comes_back(coding: str, compress: type[bytes], content: bytes) -> None:
    """gzip, and both things that `deflate` means on the wire."""
    assert inflated(compress(content), coding, bytes_max=BYTES_MAX) == content


@pytest.mark.parametrize("coding", ["", "identity", " Identity "])
def test_a_body_as_it_is_stays_as_it_is(coding: str) -> None:
    """Its size is the server's bound, not this one."""
    body = b"{" * (BYTES_MAX + 1)
    assert inflated(body, coding, bytes_max=BYTES_MAX) is body


@pytest.mark.parametrize("coding", [" GZIP ", "Gzip"])
def test_the_name_of_a_coding_has_no_case(coding: str) -> None:
    """RFC 9110 §8.4.1."""
    assert inflated(gzip.compress(b"{}"), coding, bytes_max=BYTES_MAX) == b"{}"


@pytest.mark.parametrize("coding", ["br", "zstd", "x-gzip", "gzip, gzip", "gzip, identity", "*"])
def test_another_coding_is_not_read(coding: str) -> None:
    """What cannot be read cannot be fenced: the caller refuses the write."""
    assert inflated(gzip.compress(b"{}"), coding, bytes_max=BYTES_MAX) is None


@each_coding
def test_more_content_than_the_bound_is_not_read(coding: str, compress: type[bytes]) -> None:
    """The bound itself passes, one byte more does not."""
    assert inflated(compress(b"a" * BYTES_MAX), coding, bytes_max=BYTES_MAX) is not None
    assert inflated(compress(b"a" * (BYTES_MAX + 1)), coding, bytes_max=BYTES_MAX) is None


@each_coding
def test_a_bomb_is_not_unpacked(
    coding: str, compress: type[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most one byte beyond the bound is ever written out of it."""
    written: list[int] = []
    real = zlib.decompressobj

    class Watched:
        def __init__(self, window_bits: int) -> None:
            self._real = real(window_bits)
            self.eof, self.unused_data = False, b""

        def decompress(self, body: bytes, length_max: int) -> bytes:
            content = self._real.decompress(body, length_max)
            written.append(len(content))
            self.eof, self.unused_data = self._real.eof, self._real.unused_data
            return content

    bomb = compress(b"\0" * 10_000_000)
    monkeypatch.setattr("proxy.core.content_coding.zlib.decompressobj", Watched)
    assert inflated(bomb, coding, bytes_max=BYTES_MAX) is None
    assert written
    assert max(written) <= BYTES_MAX + 1


@each_coding
def test_truncated_bodies_are_not_read(coding: str, compress: type[bytes]) -> None:
    """Every beginning of a body is damage, its last byte missing included."""
    body = compress(b'{"TableName":"orders"}')
    for end in range(len(body)):
        assert inflated(body[:end], coding, bytes_max=BYTES_MAX) is None


@each_coding
@pytest.mark.parametrize("tail", [b"\0", b"{}"])
def test_bytes_behind_the_content_are_not_ignored(
    coding: str, compress: type[bytes], tail: bytes
) -> None:
    """Upstream may read what stands there; so nobody guesses."""
    assert inflated(compress(b"{}") + tail, coding, bytes_max=BYTES_MAX) is None


def test_two_gzip_members_are_not_read() -> None:
    """One reader joins them, another stops after the first: they would see two requests."""
    body = gzip.compress(b"{") + gzip.compress(b"}")
    assert inflated(body, "gzip", bytes_max=BYTES_MAX) is None


def test_a_wrong_checksum_is_damage() -> None:
    """Gzip's CRC-32 is checked."""
    body = bytearray(gzip.compress(b"{}"))
    body[-8] ^= 1
    assert inflated(bytes(body), "gzip", bytes_max=BYTES_MAX) is None


@given(st.binary(max_size=60), st.sampled_from(["gzip", "deflate"]))
def test_any_bytes_are_read_or_not(body: bytes, coding: str) -> None:
    """Nothing is raised, and what is read stays within the bound."""
    content = inflated(body, coding, bytes_max=10)
    assert content is None or len(content) <= 10
