"""Send raw HTTP requests to a DynamoDB endpoint and take each answer as it came.

No SDK: what is spelled here is what travels. Signed with botocore, not with the proxy's own code.
"""

from __future__ import annotations

import io
import json
import socket
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.client import HTTPResponse
from typing import Any, Final, cast
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.support.proxy_process import ACCESS_KEY, REGION, SECRET_KEY

Json = dict[str, Any]
DATA: Final = "DynamoDB_20120810"
STREAMS: Final = "DynamoDBStreams_20120810"
JSON_1_0: Final = "application/x-amz-json-1.0"
ANSWER_TIMEOUT_S: Final = 20.0


@dataclass(frozen=True)
class Call:
    """One request; whatever is left out is as SDKs send it.

    Args:
        operation: as in `GetItem`; empty sends no X-Amz-Target.
        body: JSON, or the very bytes.
        headers: further fields; they replace those of the same name.
        signed: whether there is an Authorization field.
        service: the target's prefix.
    """

    operation: str = ""
    body: Json | bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    method: str = "POST"
    path: str = "/"
    signed: bool = True
    service: str = DATA

    @property
    def raw_body(self) -> bytes:
        """The bytes that travel."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()

    def naming(self, names: Mapping[str, str]) -> Call:
        """Return the same call with every `$name` in its body replaced."""
        raw = self.raw_body
        for name, meant in names.items():
            raw = raw.replace(f"${name}".encode(), meant.encode())
        return replace(self, body=raw)

    def fields(self, host: str) -> dict[str, str]:
        """Return the header fields, signed."""
        fields = {"Host": host, "Content-Type": JSON_1_0}
        if self.operation:
            fields["X-Amz-Target"] = f"{self.service}.{self.operation}"
        fields |= dict(self.headers)
        if not self.signed:
            return fields
        request = AWSRequest(self.method, f"http://{host}{self.path}", fields, self.raw_body)
        SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "dynamodb", REGION).add_auth(request)
        return dict(request.headers.items())


@dataclass(frozen=True)
class Reply:
    """One answer; header names in lower case, the last of a repeated field counts."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def content(self) -> Any:
        """The body as JSON, or as text where it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return self.body.decode(errors="replace")

    @property
    def cache_status(self) -> str:
        """What the proxy says about the answer; empty from an engine."""
        return self.headers.get("cache-status", "")

    @property
    def crc_is_right(self) -> bool:
        """Whether x-amz-crc32 is that of the body, or left out."""
        given = self.headers.get("x-amz-crc32")
        return given is None or int(given) == zlib.crc32(self.body)

    def containing(self, content: Json) -> Reply:
        """Return the same answer with another JSON body and no checksum."""
        headers = {name: text for name, text in self.headers.items() if name != "x-amz-crc32"}
        return Reply(self.status, headers, json.dumps(content).encode())


class _SharedReader(io.BufferedReader):
    """What HTTPResponse reads from; stays open for the next answer on the connection."""

    def close(self) -> None:
        """Leave that to the socket."""


class Connection:
    """One TCP connection to an endpoint."""

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        self.host = parts.netloc
        self._socket = socket.create_connection(
            (parts.hostname or "", parts.port or 80), timeout=ANSWER_TIMEOUT_S
        )
        self._reader = _SharedReader(cast("io.RawIOBase", socket.SocketIO(self._socket, "r")))

    def send(self, raw: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(raw)

    def receive(self, method: str = "POST") -> Reply:
        """Read one answer, after interim ones; `method` tells whether it has a body."""
        response = HTTPResponse(cast("socket.socket", self), method=method)
        response.begin()
        body = response.read()
        fields = {name.lower(): text for name, text in response.getheaders()}
        return Reply(response.status, fields, body)

    def read_line(self) -> bytes:
        """Read one raw line, its end included."""
        return self._reader.readline()

    @property
    def ended(self) -> bool:
        """Whether the other side closes after what was read; waits until that is clear."""
        return self._reader.peek(1) == b""

    def makefile(self, _mode: str) -> _SharedReader:
        """Give HTTPResponse its file."""
        return self._reader

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


@contextmanager
def connected(endpoint: str) -> Iterator[Connection]:
    """Open a connection for as long as the block lasts."""
    connection = Connection(endpoint)
    try:
        yield connection
    finally:
        connection.close()


def spelled(call: Call, host: str, *, version: str = "HTTP/1.1", target: str = "") -> bytes:
    """Return a call's bytes; `target` replaces the path in the request line only."""
    fields = call.fields(host) | {"Content-Length": str(len(call.raw_body))}
    return head(call, fields, version=version, target=target) + call.raw_body


def head(call: Call, fields: Mapping[str, str], *, version: str, target: str = "") -> bytes:
    """Return request line and header fields, with the blank line after them."""
    lines = [f"{call.method} {target or call.path} {version}"]
    lines += [f"{name}: {text}" for name, text in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def ask(endpoint: str, call: Call) -> Reply:
    """Send one call on a connection of its own and return the answer."""
    with connected(endpoint) as connection:
        connection.send(spelled(call, connection.host))
        return connection.receive(call.method)
