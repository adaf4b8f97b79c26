"""Judge the settings that are text with a structure: addresses and URLs.

Standard library only. Each check takes the text and returns it, or raises ValueError with a
message that names what is allowed and never repeats the text, which may hold a password.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

PORT_MAX: Final = 65535
MASK: Final = "********"

_HOST_PORT: Final = re.compile(
    r"(?:\[(?P<ipv6>[^\]]+)\]|(?P<host>[^\[\]:/@\s]+)):(?P<port>\d{1,5})"
)
_NETWORK_SCHEMES: Final = frozenset({"redis", "rediss"})


def split_host_port(text: str) -> tuple[str, int]:
    """Split `HOST:PORT` into the host, without brackets, and the port.

    Raises:
        ValueError: it is not HOST:PORT, or an IPv6 host stands without brackets.
    """
    found = _HOST_PORT.fullmatch(text)
    if found is None or int(found["port"]) > PORT_MAX:
        raise ValueError(
            "must be HOST:PORT, such as 127.0.0.1:8111 or [::1]:8111; port 0 chooses a free one"
        )
    if found["ipv6"] is None:
        return found["host"], int(found["port"])
    try:
        IPv6Address(found["ipv6"])
    except ValueError:
        raise ValueError("must have an IPv6 address between the brackets") from None
    return found["ipv6"], int(found["port"])


def check_host_port(text: str) -> str:
    """Accept `HOST:PORT`, an IPv6 host in brackets."""
    split_host_port(text)
    return text


def check_servers(given: object) -> tuple[str, ...]:
    """Accept a list of `HOST:PORT`, or a text of them with commas between, as variables have it."""
    listed = given.split(",") if isinstance(given, str) else given
    if not isinstance(listed, list | tuple) or not all(isinstance(each, str) for each in listed):
        raise ValueError("must be a list of HOST:PORT")
    servers = tuple(each.strip() for each in listed if each.strip())
    for each in servers:
        try:
            _, port = split_host_port(each)
        except ValueError:
            port = 0
        if not port:
            raise ValueError("must be a list of HOST:PORT, such as 10.0.0.1:26379 or [::1]:26379")
    if len(set(servers)) < len(servers):
        raise ValueError("must name each server once")
    return servers


def check_endpoint(text: str) -> str:
    """Accept `http(s)://HOST[:PORT]` and return it without a final slash."""
    parts = _split_url(text)
    plain = not (parts.query or parts.fragment or "@" in parts.netloc)
    if parts.scheme in {"http", "https"} and parts.hostname and parts.path in {"", "/"} and plain:
        return text.removesuffix("/")
    raise ValueError("must be http(s)://HOST[:PORT], without path, query or user name")


def is_loopback(host: str) -> bool:
    """Tell whether a host, an address or `localhost`, is this machine for sure."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_store_url(text: str) -> str:
    """Accept `redis://`, `rediss://` (TLS) with host, or `unix://` with an absolute path.

    No query: redis-py would take options from it that are settings here, past their bounds.
    """
    if "?" in text or "#" in text:
        raise ValueError(
            "must have no query and no fragment: time-outs, user name and password are settings"
            " of their own; within a password, write %3F for ? and %23 for #"
        )
    parts = _split_url(text)
    if parts.scheme in _NETWORK_SCHEMES and parts.hostname and re.fullmatch(r"(/\d*)?", parts.path):
        return text
    if parts.scheme == "unix" and not parts.hostname and parts.path.startswith("/"):
        return text
    raise ValueError(
        "must be redis://HOST[:PORT][/DATABASE], rediss:// for TLS, or unix:///PATH/TO/SOCKET"
    )


def masked_url(url: str) -> str:
    """Return a store URL fit for people to see: its password is masked."""
    parts = urlsplit(url)
    user_part, at, host_part = parts.netloc.rpartition("@")
    user, colon, _ = user_part.partition(":")
    netloc = f"{user}:{MASK}@{host_part}" if colon else f"{user_part}{at}{host_part}"
    # Not urlunsplit: it turns unix:///path into unix:/path.
    return f"{parts.scheme}://{netloc}{parts.path}"


def url_has_password(url: str) -> bool:
    """Tell whether a store URL carries a password."""
    return masked_url(url) != url


def _split_url(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        _ = parts.port  # only reading it checks it
    except ValueError:
        raise ValueError("must be a URL whose port is a number up to 65535") from None
    return parts
