"""Claims about `proxy.configuration.checks`."""

import pytest

from proxy.configuration.checks import (
    MASK,
    check_endpoint,
    check_host_port,
    check_servers,
    check_store_url,
    is_loopback,
    masked_url,
    split_host_port,
    url_has_password,
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8111", ("127.0.0.1", 8111)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_address_splits_into_host_and_port(text: str, address: tuple[str, int]) -> None:
    """A valid address splits, and an IPv6 host loses its brackets."""
    assert split_host_port(check_host_port(text)) == address


@pytest.mark.parametrize(
    "text",
    ["", "8111", ":8111", "host", "host:", "host:65536", "::1:80", "[x]:80", "a b:1", "h:1\n"],
)
def test_malformed_address_is_refused(text: str) -> None:
    """What is not HOST:PORT is refused with an explanation."""
    with pytest.raises(ValueError, match="must"):
        check_host_port(text)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("https://dynamodb.example/", "https://dynamodb.example"),
    ],
)
def test_endpoint_loses_its_final_slash(text: str, endpoint: str) -> None:
    """An endpoint may end in a slash, which is not kept."""
    assert check_endpoint(text) == endpoint


@pytest.mark.parametrize(
    "text",
    [
        "dynamodb:8000",
        "ftp://host",
        "http://",
        "http://host/path",
        "http://host?q",
        "http://user@host",
        "http://host:port",
        "http://[host",
    ],
)
def test_endpoint_with_more_than_host_and_port_is_refused(text: str) -> None:
    """An endpoint is scheme, host and port, nothing else."""
    with pytest.raises(ValueError, match="must be"):
        check_endpoint(text)


@pytest.mark.parametrize(
    "text", ["redis://h", "rediss://u:p@h:6380/2", "unix:///run/redis.sock", "redis://[::1]:6379/"]
)
def test_store_url_is_accepted(text: str) -> None:
    """The three schemes of stores are accepted unchanged."""
    assert check_store_url(text) == text


@pytest.mark.parametrize(
    "text", ["h:6379", "redis://", "redis://:hidden@h/name", "http://h", "unix://h", "redis://h:x"]
)
def test_refused_store_url_is_not_repeated(text: str) -> None:
    """A store URL is refused with what is allowed, without the password it may hold."""
    with pytest.raises(ValueError, match="must be") as refusal:
        check_store_url(text)
    assert "hidden" not in str(refusal.value)


@pytest.mark.parametrize(
    "text",
    [
        "redis://:hidden@h/0?socket_timeout=60",
        "redis://h?db=3",
        "redis://h/0?",
        "rediss://h/0#part",
        "redis://:hid#den@h",
        "unix:///run/redis.sock?db=1",
    ],
)
def test_store_url_with_options_is_refused(text: str) -> None:
    """Options in a URL would go past the settings, or mean something else than was thought."""
    with pytest.raises(ValueError, match="must have no query and no fragment") as refusal:
        check_store_url(text)
    assert "hid" not in str(refusal.value)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.9.8.7", True),
        ("::1", True),
        ("localhost", True),
        ("10.0.0.1", False),
        ("0.0.0.0", False),
        ("localhost.example", False),
        ("", False),
    ],
)
def test_loopback_is_told_by_address_and_name(host: str, *, local: bool) -> None:
    """127.0.0.0/8, ::1 and localhost are this machine; no other name is believed to be."""
    assert is_loopback(host) is local


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("redis://h/0", "redis://h/0"),
        ("redis://user@h", "redis://user@h"),
        ("redis://user:p%40ss@h:1/0", f"redis://user:{MASK}@h:1/0"),
        ("unix:///s", "unix:///s"),
    ],
)
def test_passwords_in_urls_are_masked(url: str, masked: str) -> None:
    """The password is masked, the rest stays readable."""
    assert masked_url(url) == masked
    assert url_has_password(url) is (url != masked)


@pytest.mark.parametrize(
    ("given", "servers"),
    [
        ([], ()),
        ("", ()),
        (["h:1", "[::1]:2"], ("h:1", "[::1]:2")),
        (("h:1",), ("h:1",)),
        ("h:1, [::1]:2,", ("h:1", "[::1]:2")),
    ],
)
def test_servers_are_a_list_or_a_text_with_commas(given: object, servers: tuple[str, ...]) -> None:
    """A file gives a list, a variable a text."""
    assert check_servers(given) == servers


@pytest.mark.parametrize(
    "given", [1, [1], {"h": 1}, ["h"], ["h:0"], "h:1 i:2", "::1:2", ["a:1"] * 2]
)
def test_wrong_servers_are_refused(given: object) -> None:
    """Each server needs its host and a real port, once."""
    with pytest.raises(ValueError, match=r"must (be a list of HOST:PORT|name each server once)"):
        check_servers(given)
