"""Signs requests with AWS Signature Version 4, as botocore does, at a fraction of the cost.

Standard library only; no clock of its own. `proxy.edge.upstream_head` is the caller.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import quote

SERVICE: Final = "dynamodb"
"""The service in the credential scope, for DynamoDB and for its Streams alike."""

# What something between us and upstream may change or drop must not be signed; botocore's list.
UNSIGNED_HEADERS: Final = frozenset(
    {
        "baggage",
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "traceparent",
        "tracestate",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "x-amzn-trace-id",
    }
)

_BLOCK_BYTES: Final = 64  # of SHA-256
_INNER_PAD: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD: Final = bytes(byte ^ 0x5C for byte in range(256))


@dataclass(frozen=True, slots=True)
class Credentials:
    """One set of AWS credentials; neither the secret nor the token is ever printed.

    Args:
        access_key: the access key id, which is no secret.
        secret_key: signs.
        session_token: sent along; None for long-term credentials.
    """

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


class Unsigned(NamedTuple):
    """What is to be signed, exactly as it will be sent.

    Args:
        method: in capitals.
        target: path, with the query after `?`; begins with `/`, no fragment, ASCII only.
        headers: every field to be sent, `Host` among them; no signature field.
        body: the bytes to be sent.
    """

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes


class Moment(NamedTuple):
    """One second of the wall clock, as signatures name it.

    Args:
        stamp: the time, for `X-Amz-Date`.
        scope: the credential scope of its day.
    """

    stamp: str
    scope: str


class Signer:
    """Sign requests for one region; the signing key is kept for as long as it stays the same.

    Args:
        region: the region of the credential scope, `eu-west-1`.
        service: the service of the credential scope.
    """

    def __init__(self, region: str, service: str = SERVICE) -> None:
        self._region = region
        self._service = service
        self._second = -1
        self._moment = Moment("", "")
        self._key_of: tuple[str, str] = ("", "")
        self._key = _Key(b"")

    def sign(
        self, unsigned: Unsigned, credentials: Credentials, now_wall_s: float
    ) -> list[tuple[str, str]]:
        """Return the fields that sign a request: to be sent with it, in any place.

        Args:
            unsigned: the request; nothing of it may change afterwards.
            credentials: whose signature it is.
            now_wall_s: wall clock, seconds since the epoch; upstream accepts 5 minutes either way.

        Returns: `X-Amz-Date`, `X-Amz-Security-Token` where there is a token, `Authorization`.
        Raises: nothing.
        Source: AWS General Reference, "Create a signed AWS API request"; botocore's `SigV4Auth`.
        """
        moment = self.moment(now_wall_s)
        fields = dated(credentials, moment.stamp)
        body_hash = hashlib.sha256(unsigned.body).hexdigest()
        canonical, names = canonical_request(unsigned, fields, body_hash)
        signature = self.signature(canonical.encode(), credentials, moment).decode()
        text = authorization(credentials, moment.scope, names, signature)
        return [*fields, ("Authorization", text)]

    def moment(self, now_wall_s: float) -> Moment:
        """Return the second of a time."""
        second = int(now_wall_s)
        if second != self._second:
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
            scope = f"{stamp[:8]}/{self._region}/{self._service}/aws4_request"
            self._second, self._moment = second, Moment(stamp, scope)
        return self._moment

    def signature(self, canonical: bytes, credentials: Credentials, moment: Moment) -> bytes:
        """Return the signature of a canonical request, in hexadecimal digits."""
        stamp, scope = moment
        if self._key_of != (credentials.secret_key, scope):
            self._key_of = credentials.secret_key, scope
            self._key = _signing_key(credentials.secret_key, scope)
        digest = hashlib.sha256(canonical).hexdigest()
        return self._key.sign(f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}".encode())


class _Key:
    """HMAC-SHA256 under one key, whose share of the work is done once.

    Two thirds less time than `hmac.digest`. Source: RFC 2104.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        padded = key.ljust(_BLOCK_BYTES, b"\0")
        self._inner = hashlib.sha256(padded.translate(_INNER_PAD))
        self._outer = hashlib.sha256(padded.translate(_OUTER_PAD))

    def sign(self, message: bytes) -> bytes:
        """Return the digest of a message, in hexadecimal digits."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.hexdigest().encode()


def _signing_key(secret_key: str, scope: str) -> _Key:
    key = f"AWS4{secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return _Key(key)


def dated(credentials: Credentials, stamp: str) -> list[tuple[str, str]]:
    """Return the fields of a signature that are signed themselves."""
    fields = [("X-Amz-Date", stamp)]
    if credentials.session_token:
        fields.append(("X-Amz-Security-Token", credentials.session_token))
    return fields


def canonical_request(
    unsigned: Unsigned, signature_fields: list[tuple[str, str]], body_hash: str
) -> tuple[str, str]:
    """Return what is signed, and the names of the fields in it.

    Args:
        unsigned: the request; its body does not matter.
        signature_fields: of `dated`.
        body_hash: SHA-256 of the body, in hexadecimal digits.
    """
    headers, names = _canonical_headers(unsigned.headers, signature_fields)
    path, _, query = unsigned.target.partition("?")
    begin = f"{unsigned.method}\n{_canonical_path(path)}\n{_canonical_query(query)}\n"
    return f"{begin}{headers}\n{names}\n{body_hash}", names


def authorization(credentials: Credentials, scope: str, names: str, signature: str) -> str:
    """Return the `Authorization` field."""
    return (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
        f"SignedHeaders={names}, Signature={signature}"
    )


class _Layout(NamedTuple):
    """How fields of certain names are signed.

    Args:
        block: the canonical block, each line ended by a line feed, with a place for each value.
        order: which of the fields' values goes to each place.
        names: the names in it, joined as `SignedHeaders` has them.
    """

    block: str
    order: tuple[int, ...]
    names: str


def _canonical_headers(
    headers: list[tuple[str, str]], signature_fields: list[tuple[str, str]]
) -> tuple[str, str]:
    """Return the canonical block, and the names in it."""
    fields = [*headers, *signature_fields]
    layout = _layout(tuple([name for name, _ in fields]))
    trimmed = [" ".join(fields[place][1].split()) for place in layout.order]
    return layout.block % tuple(trimmed), layout.names


@lru_cache(maxsize=256)  # a client sends the same few sets of names, operation by operation
def _layout(names: tuple[str, ...]) -> _Layout:
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        if (lower := name.lower()) not in UNSIGNED_HEADERS:
            places.setdefault(lower, []).append(place)
    # Fields of one name are one field, its values in the order sent.
    lines = [
        f"{lower.replace('%', '%%')}:{','.join(['%s'] * len(places[lower]))}\n"
        for lower in sorted(places)
    ]
    order = tuple(place for lower in sorted(places) for place in places[lower])
    return _Layout("".join(lines), order, ";".join(sorted(places)))


def _canonical_path(path: str) -> str:
    if path == "/":
        return path
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment and segment != ".":
            kept.append(segment)
    last = "/" if kept and path.endswith("/") else ""
    return quote(f"/{'/'.join(kept)}{last}", safe="/~")


def _canonical_query(query: str) -> str:
    if not query:
        return ""
    # Name and value are sorted as a pair: as one text, `a-=1` would come before `a=1`.
    pairs = sorted(pair.partition("=")[::2] for pair in query.split("&"))
    return "&".join([f"{name}={value}" for name, value in pairs])
