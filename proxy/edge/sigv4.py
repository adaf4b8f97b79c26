"""Signs requests with AWS Signature Version 4, as botocore does, at a fraction of the cost.

Standard library only; no clock of its own. `proxy.edge.upstream` is the caller.
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
        self._stamp = ""
        self._scope = ""
        self._key_of: tuple[str, str] | None = None
        self._key = b""

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
        self._set_time(int(now_wall_s))
        signature_fields = [("X-Amz-Date", self._stamp)]
        if credentials.session_token:
            signature_fields.append(("X-Amz-Security-Token", credentials.session_token))
        canonical_headers, signed_names = _canonical_headers(unsigned.headers, signature_fields)
        path, _, query = unsigned.target.partition("?")
        canonical = (
            f"{unsigned.method}\n{_canonical_path(path)}\n{_canonical_query(query)}\n"
            f"{canonical_headers}\n{signed_names}\n{hashlib.sha256(unsigned.body).hexdigest()}"
        )
        to_sign = (
            f"AWS4-HMAC-SHA256\n{self._stamp}\n{self._scope}\n"
            f"{hashlib.sha256(canonical.encode()).hexdigest()}"
        )
        key = self._signing_key(credentials.secret_key)
        signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
        authorization = (
            f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{self._scope}, "
            f"SignedHeaders={signed_names}, Signature={signature}"
        )
        signature_fields.append(("Authorization", authorization))
        return signature_fields

    def _set_time(self, second: int) -> None:
        if second == self._second:
            return
        self._second = second
        self._stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        self._scope = f"{self._stamp[:8]}/{self._region}/{self._service}/aws4_request"

    def _signing_key(self, secret_key: str) -> bytes:
        key_of = (secret_key, self._scope)
        if key_of != self._key_of:
            key = f"AWS4{secret_key}".encode()
            for part in self._scope.split("/"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._key_of, self._key = key_of, key
        return self._key


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
