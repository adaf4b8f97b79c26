"""Makes the heads of requests to upstream: the fields that travel, the signature, the bytes.

Most requests have the fields of earlier ones. What can be said of such a head beforehand is said
once per shape (`proxy.core.request.HeaderShape`): a request then costs its hashes and little else.
Invariant: a field holds its own value and nothing else; none can begin another field or request.
"""

from __future__ import annotations

import hashlib
from typing import Final

from proxy.core.request import Headers, HeaderShape, ShapedHeaders
from proxy.edge.blanks import Blanks, mark, marked
from proxy.edge.sigv4 import (
    Credentials,
    Moment,
    Signer,
    Unsigned,
    authorization,
    canonical_request,
    dated,
)
from proxy.edge.upstream_fields import (
    HOP_HEADER,
    REMADE,
    SHAPES_MAX,
    end_to_end,
    origin_form,
    travels,
)
from proxy.flow.ports import UpstreamRequest

BODILESS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods whose empty body is not announced by a length."""

_STAMP, _BODY_HASH, _SIGNATURE, _LENGTH = "stamp", "hash", "signature", "length"  # blanks


class HeadMaker:
    """Makes heads of requests to one endpoint.

    Args:
        host: as `Host` has it.
        path: is put before every target.
        instance_id: random name of this process, for `HOP_HEADER`.
        signer: signs for the endpoint's region.
    """

    def __init__(self, host: str, path: str, *, instance_id: str, signer: Signer) -> None:
        self._host = host
        self._path = path
        self._hop = (HOP_HEADER, instance_id)
        self._signer = signer
        self._forms: dict[HeaderShape, _Form | None] = {}  # None for those that came once

    def head(self, request: UpstreamRequest, credentials: Credentials, now_wall_s: float) -> bytes:
        """Return a request's head as it will be sent, from its first line to the empty one.

        Args:
            request: any.
            credentials: sign it.
            now_wall_s: wall clock, seconds since the epoch.
        """
        headers = request.headers
        usual = request.method == "POST" and request.target == "/"
        if not (usual and isinstance(headers, ShapedHeaders)):
            return self._written(request, credentials, now_wall_s)
        shape, moment = headers.shape, self._signer.moment(now_wall_s)
        form = self._forms.get(shape)
        if form is not None and form.holds(credentials, moment.scope):
            return form.head(headers, request.body, moment)
        made = self._written(request, credentials, now_wall_s)
        # Learning takes longer than that, and what came once may never come again.
        learned = self._learned(shape, credentials, moment) if shape in self._forms else None
        same = learned is None or learned.head(headers, request.body, moment) == made
        assert same, "what was learned of a shape is not what it looks like"
        if len(self._forms) >= SHAPES_MAX:
            self._forms.clear()
        self._forms[shape] = learned
        return made

    def _written(
        self, request: UpstreamRequest, credentials: Credentials, now_wall_s: float
    ) -> bytes:
        """Make the head of a request of which nothing is known beforehand."""
        method, body = request.method, request.body
        target = self._path + origin_form(request.target)
        headers = self._travelling(request.headers)
        unsigned = Unsigned(method, target, headers, body)
        headers += self._signer.sign(unsigned, credentials, now_wall_s)
        if body or method not in BODILESS:
            headers.append(("Content-Length", str(len(body))))
        text = _spelled(method, target, headers)
        ends = len(headers) + 2
        clean = text.count("\r") == text.count("\n") == ends and "\0" not in text
        assert clean, "a field that would end its own line"
        return text.encode()

    def _travelling(self, headers: Headers) -> list[tuple[str, str]]:
        return [("Host", self._host), *end_to_end(headers, besides=REMADE), self._hop]

    def _learned(self, shape: HeaderShape, credentials: Credentials, moment: Moment) -> _Form:
        names = {shape.sample[place][0] for place in shape.varying if place not in shape.words}
        assert not any(travels(name, REMADE) for name in names), "no word, and signed"
        target = self._path + "/"
        headers = self._travelling(marked(shape.sample, shape.words))
        signing = dated(credentials, mark(_STAMP))
        unsigned = Unsigned("POST", target, headers, b"")
        canonical, signed = canonical_request(unsigned, signing, mark(_BODY_HASH))
        signature = authorization(credentials, moment.scope, signed, mark(_SIGNATURE))
        headers += [*signing, ("Authorization", signature), ("Content-Length", mark(_LENGTH))]
        whole = _spelled("POST", target, headers)
        return _Form(self._signer, credentials, moment.scope, canonical=canonical, whole=whole)


class _Form:
    """What heads of one shape have in common, for some credentials and a day's scope.

    Args:
        signer: signs.
        credentials, scope: what it is for.
        canonical: what is signed, with blanks.
        whole: the head, with blanks.
    """

    __slots__ = ("_canonical", "_credentials", "_scope", "_signer", "_whole")

    def __init__(
        self, signer: Signer, credentials: Credentials, scope: str, *, canonical: str, whole: str
    ) -> None:
        self._signer = signer
        self._credentials = credentials
        self._scope = scope
        self._canonical = Blanks(canonical)
        self._whole = Blanks(whole)

    def holds(self, credentials: Credentials, scope: str) -> bool:
        """Tell whether this form is for these very credentials, and this scope."""
        return self._credentials is credentials and self._scope == scope

    def head(self, headers: Headers, body: bytes, moment: Moment) -> bytes:
        """Return the head of one request."""
        stamp, blank = moment.stamp.encode(), self._canonical.named
        pieces = self._canonical.pieces(headers)
        pieces[blank[_STAMP]] = stamp
        pieces[blank[_BODY_HASH]] = hashlib.sha256(body).hexdigest().encode()
        signature = self._signer.signature(b"".join(pieces), self._credentials, moment)
        pieces, blank = self._whole.pieces(headers), self._whole.named
        pieces[blank[_STAMP]] = stamp
        pieces[blank[_SIGNATURE]] = signature
        pieces[blank[_LENGTH]] = b"%d" % len(body)
        return b"".join(pieces)


def _spelled(method: str, target: str, headers: list[tuple[str, str]]) -> str:
    lines = [f"{name}: {text}\r\n" for name, text in headers]
    return f"{method} {target} HTTP/1.1\r\n{''.join(lines)}\r\n"
