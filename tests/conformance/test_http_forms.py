"""However a request is put into HTTP, the proxy takes it as the engine does, or better.

The direct answer is that of the plain form: some engines do not know every form.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.conformance.pair import Pair
from tests.support.dynamo_wire import JSON_1_0, Call, Connection, connected, head, spelled

ITEM = {"pk": {"S": "forms"}, "v": {"S": "x" * 50}}
READ = Call("GetItem", {"TableName": "$hash", "Key": {"pk": {"S": "forms"}}})
QUERY = Call("Scan", {"TableName": "$number"})


@pytest.fixture
def forms_pair(cold_pair: Pair) -> Pair:
    """Give the pair with the item that all forms read."""
    cold_pair.put("hash", ITEM)
    return cold_pair


def send_plain(connection: Connection, call: Call) -> None:
    connection.send(spelled(call, connection.host))


def send_chunked(connection: Connection, call: Call) -> None:
    fields = call.fields(connection.host) | {"Transfer-Encoding": "chunked"}
    connection.send(head(call, fields, version="HTTP/1.1"))
    body = call.raw_body
    for piece in (body[:7], body[7:30], body[30:]):
        connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))
    connection.send(b"0\r\n\r\n")


def send_dribbled(connection: Connection, call: Call) -> None:
    raw = spelled(call, connection.host)
    for start in range(0, len(raw), 5):
        connection.send(raw[start : start + 5])


def send_lower_case(connection: Connection, call: Call) -> None:
    fields = {name.lower(): text for name, text in call.fields(connection.host).items()}
    fields["content-length"] = str(len(call.raw_body))
    connection.send(head(call, fields, version="HTTP/1.1") + call.raw_body)


def send_upper_case(connection: Connection, call: Call) -> None:
    fields = {name.upper(): text for name, text in call.fields(connection.host).items()}
    fields["CONTENT-LENGTH"] = str(len(call.raw_body))
    connection.send(head(call, fields, version="HTTP/1.1") + call.raw_body)


def send_http_1_0(connection: Connection, call: Call) -> None:
    connection.send(spelled(call, connection.host, version="HTTP/1.0"))


def send_absolute(connection: Connection, call: Call) -> None:
    connection.send(spelled(call, connection.host, target=f"http://{connection.host}/"))


def send_with_query(connection: Connection, call: Call) -> None:
    connection.send(spelled(replace(call, path="/?a=b&c"), connection.host))


def send_expecting(connection: Connection, call: Call) -> None:
    """Wait for the interim answer before the body, as some SDKs do."""
    fields = call.fields(connection.host)
    fields |= {"Content-Length": str(len(call.raw_body)), "Expect": "100-continue"}
    connection.send(head(call, fields, version="HTTP/1.1"))
    assert connection.read_line() == b"HTTP/1.1 100 Continue\r\n"
    assert connection.read_line() == b"\r\n"
    connection.send(call.raw_body)


def send_long_headers(connection: Connection, call: Call) -> None:
    call = replace(call, headers=(("X-Amz-Security-Token", "t" * 6000),))
    connection.send(spelled(call, connection.host))


FORMS = [
    send_plain,
    send_chunked,
    send_dribbled,
    send_lower_case,
    send_upper_case,
    send_http_1_0,
    send_absolute,
    send_with_query,
    send_expecting,
    send_long_headers,
]


@pytest.mark.parametrize("send", FORMS, ids=lambda send: send.__name__)
@pytest.mark.parametrize("call", [READ, QUERY], ids=["cached", "passed"])
def test_form_does_not_change_the_answer(
    forms_pair: Pair, send: Callable[[Connection, Call], None], call: Call
) -> None:
    """Cold and warm, the answer is that of the engine to the plain form."""
    direct = forms_pair.ask_engine(call)
    for _ in range(2):
        with connected(forms_pair.proxy.endpoint) as connection:
            send(connection, call.naming(forms_pair.names))
            proxied = connection.receive()
        assert (proxied.status, proxied.content) == (direct.status, direct.content)
        assert proxied.headers["content-type"] == JSON_1_0
        assert proxied.crc_is_right


def test_pipelined_requests_are_answered_in_order(forms_pair: Pair) -> None:
    """Five requests sent at once, misses, hits and a refusal, get their answers in their order."""
    missing = Call("GetItem", {"TableName": "$hash", "Key": {"pk": {"S": "nobody"}}})
    calls = [READ, QUERY, missing, Call("Nonsense", {}), READ]
    named = [call.naming(forms_pair.names) for call in calls]
    with connected(forms_pair.proxy.endpoint) as connection:
        connection.send(b"".join(spelled(call, connection.host) for call in named))
        proxied = [connection.receive().content for _ in named]
    assert proxied == [forms_pair.ask_engine(call).content for call in calls]


def test_connection_stays_open_for_many_requests(forms_pair: Pair) -> None:
    """Keep-alive is kept: misses, hits, writes and errors share one connection."""
    write = Call("PutItem", {"TableName": "$hash", "Item": ITEM})
    with connected(forms_pair.proxy.endpoint) as connection:
        for call in (READ, READ, write, Call("Nonsense", {}), READ, Call("GetItem", b"{")):
            send_plain(connection, call.naming(forms_pair.names))
            assert connection.receive().status in {200, 400}


@pytest.mark.parametrize(
    ("version", "fields"),
    [("HTTP/1.1", {"Connection": "close"}), ("HTTP/1.0", {})],
    ids=["close", "http-1.0"],
)
def test_connection_is_closed_when_the_client_says_so(
    forms_pair: Pair, version: str, fields: dict[str, str]
) -> None:
    """`Connection: close`, and HTTP/1.0 without keep-alive, end the connection after the answer."""
    call = replace(READ.naming(forms_pair.names), headers=tuple(fields.items()))
    with connected(forms_pair.proxy.endpoint) as connection:
        connection.send(spelled(call, connection.host, version=version))
        assert connection.receive().status == 200
        assert connection.ended


def test_compressed_read_is_judged_by_the_engine(forms_pair: Pair) -> None:
    """A gzip body passes as it is: whether it is understood is the engine's affair."""
    call = READ.naming(forms_pair.names)
    call = Call("GetItem", gzip.compress(call.raw_body), (("Content-Encoding", "gzip"),))
    direct, proxied = forms_pair.ask_engine(call), forms_pair.ask_proxy(call)
    assert (proxied.status, proxied.content) == (direct.status, direct.content)


def test_compressed_answer_is_passed_on_as_it_is(forms_pair: Pair) -> None:
    """Whatever coding the engine chooses for a client that accepts some, the bytes are its own."""
    call = replace(QUERY, headers=(("Accept-Encoding", "gzip, deflate"),))
    direct, proxied = forms_pair.ask_engine(call), forms_pair.ask_proxy(call)
    assert proxied.headers.get("content-encoding") == direct.headers.get("content-encoding")
    assert proxied.body == direct.body


def test_head_has_no_body(forms_pair: Pair) -> None:
    """HEAD gets a status and no body."""
    proxied = forms_pair.ask_proxy(Call(method="HEAD", signed=False))
    assert proxied.body == b""
    assert 200 <= proxied.status < 500


def test_browser_may_read_misses_and_hits(forms_pair: Pair) -> None:
    """An answer to a request with an Origin carries DynamoDB's CORS fields, however it came."""
    call = replace(READ, headers=(("Origin", "https://example.org"),))
    for _ in range(2):
        assert forms_pair.ask_proxy(call).headers["access-control-allow-origin"] == "*"


def test_what_is_not_http_gets_a_readable_answer(forms_pair: Pair) -> None:
    """Garbage is refused with a DynamoDB error and the connection is closed."""
    with connected(forms_pair.proxy.endpoint) as connection:
        connection.send(b"\x16\x03\x01\x02\x00 this is no HTTP\r\n\r\n")
        reply = connection.receive()
        assert reply.status == 400
        assert reply.content["__type"].endswith("SerializationException")
        assert connection.ended
