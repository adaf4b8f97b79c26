"""Claims about `proxy.edge.sigv4`; botocore's own signer is the oracle."""

from __future__ import annotations

import datetime as dt
import string

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.edge.sigv4 import Credentials, Signer, Unsigned

HOST = "dynamodb.eu-west-1.amazonaws.com"
NOW_WALL_S = 1_754_000_000.25
CREDENTIALS = Credentials("AKIDEXAMPLE", "secret-of-the-example")
UNSIGNED = Unsigned("POST", "/", [("Host", HOST), ("X-Amz-Target", "DynamoDB.X")], b"{}")

PRINTABLE = "".join(c for c in string.printable if " " <= c <= "~")
paths = st.text(string.ascii_letters + string.digits + "/.~-_%!*'()+:@,;=&$", max_size=30)
queries = st.text(string.ascii_letters + string.digits + "=&%+-._~", max_size=30)
header_values = st.text(PRINTABLE + "\t\xe9\u20ac", max_size=40)
header_names = st.text(string.ascii_letters + string.digits + "-", min_size=1, max_size=12)
tokens = st.none() | st.text(string.ascii_letters + "+/=", min_size=1, max_size=400)
headers = st.lists(
    st.tuples(
        header_names.map(lambda name: f"X-{name}")
        | st.sampled_from(["User-Agent", "x-amzn-trace-id", "Content-Type", "TraceParent"]),
        header_values,
    ),
    max_size=6,
)


def signed_by_botocore(
    unsigned: Unsigned, credentials: Credentials, now_wall_s: float
) -> dict[str, str]:
    """Return the signature fields that botocore makes for the same request and second."""
    request = botocore.awsrequest.AWSRequest(
        method=unsigned.method, url=f"https://{HOST}{unsigned.target}", data=unsigned.body
    )
    for name, value in unsigned.headers:
        request.headers[name] = value
    now = dt.datetime.fromtimestamp(now_wall_s, dt.UTC)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda: now)
        botocore.auth.SigV4Auth(
            botocore.credentials.Credentials(
                credentials.access_key, credentials.secret_key, credentials.session_token
            ),
            "dynamodb",
            "eu-west-1",
        ).add_auth(request)
    names = {"X-Amz-Date", "X-Amz-Security-Token", "Authorization"}
    return {name: value for name, value in request.headers.items() if name in names}


@given(
    method=st.sampled_from(["POST", "GET", "PUT"]),
    path=paths,
    query=queries,
    extra=headers,
    body=st.binary(max_size=64),
    token=tokens,
    # Whole milliseconds: datetime, which botocore uses, rounds what is finer than microseconds.
    now_wall_s=st.integers(10**12, 4 * 10**12).map(lambda wall_ms: wall_ms / 1000),
)
def test_signature_is_botocores(
    *,
    method: str,
    path: str,
    query: str,
    extra: list[tuple[str, str]],
    body: bytes,
    token: str | None,
    now_wall_s: float,
) -> None:
    """Whatever the path, query, fields, body, token and time: the signature is botocore's."""
    target = f"/{path}?{query}" if query else f"/{path}"
    unsigned = Unsigned(method, target, [("Host", HOST), *extra], body)
    credentials = Credentials("AKIDEXAMPLE", "secret", token)
    signed = dict(Signer("eu-west-1").sign(unsigned, credentials, now_wall_s))
    assert signed == signed_by_botocore(unsigned, credentials, now_wall_s)


def test_names_of_fields_are_no_template() -> None:
    """A name may have any sign of a token in it, a per cent sign too."""
    unsigned = UNSIGNED._replace(headers=[("Host", HOST), ("X-%s", "a"), ("x-%S", "%d")])
    signer = Signer("eu-west-1")
    for now_wall_s in (NOW_WALL_S, NOW_WALL_S + 0.25):  # twice in one second
        signed = dict(signer.sign(unsigned, CREDENTIALS, now_wall_s))
        assert signed == signed_by_botocore(unsigned, CREDENTIALS, now_wall_s)


def test_kept_key_follows_credentials_and_date() -> None:
    """One signer in use signs like botocore after its credentials or the date changed."""
    signer = Signer("eu-west-1")
    other = Credentials("AKIDOTHER", "another secret", "token")
    for credentials in (CREDENTIALS, other, CREDENTIALS):
        for now_wall_s in (NOW_WALL_S, NOW_WALL_S + 1, NOW_WALL_S + 86_400):
            signed = dict(signer.sign(UNSIGNED, credentials, now_wall_s))
            assert signed == signed_by_botocore(UNSIGNED, credentials, now_wall_s)


@pytest.mark.parametrize(
    "target",
    ["/", "//", "/a//b/", "/a/../b", "/..", "/a/./b/.", "/%2e%2E/x", "/?", "/?b&a=1&a-=2&a=0"],
)
def test_odd_targets_are_signed_as_botocore_does(target: str) -> None:
    """Dot segments, doubled slashes and unordered queries have botocore's canonical form."""
    unsigned = UNSIGNED._replace(target=target)
    signed = dict(Signer("eu-west-1").sign(unsigned, CREDENTIALS, NOW_WALL_S))
    assert signed == signed_by_botocore(unsigned, CREDENTIALS, NOW_WALL_S)


def test_secrets_are_not_printed() -> None:
    """The text of credentials shows the access key id only."""
    text = repr(Credentials("AKIDEXAMPLE", "the-secret", "the-token"))
    assert text == "Credentials(access_key='AKIDEXAMPLE')"
