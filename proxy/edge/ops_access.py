"""Decides who may do more on the ops port than look at probes and metrics: the one place for it."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import hdrs, web

Handler = Callable[[web.Request], Awaitable[web.Response]]

LOOPBACK_ONLY: Final = "this is for loopback only; use a port-forward or an exec\n"
NO_WEB_PAGES: Final = "this is not for web pages\n"


def for_operators(handler: Handler) -> Handler:
    """Return the handler for callers on this host, and a refusal (403) for all others.

    A page in a browser on this host could call it too, but cannot hide its Origin field.
    """

    async def guarded(request: web.Request) -> web.Response:
        if not is_local(request):
            return web.Response(status=403, text=LOOPBACK_ONLY)
        if hdrs.ORIGIN in request.headers:
            return web.Response(status=403, text=NO_WEB_PAGES)
        return await handler(request)

    return guarded


def is_local(request: web.Request) -> bool:
    """Tell whether a request came from this host: from loopback, or through a unix socket."""
    connection = request.get_extra_info("socket")
    through_file = connection is not None and connection.family == socket.AF_UNIX
    return through_file or is_loopback(request.remote)


def is_loopback(peer: str | None) -> bool:
    """Tell whether a peer's address is this host's loopback; unknown addresses are not."""
    try:
        address = ipaddress.ip_address(peer or "")
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)  # ::ffff:127.0.0.1 on a dual-stack listener
    return (mapped or address).is_loopback
