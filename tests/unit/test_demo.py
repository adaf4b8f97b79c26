"""Claims about how the demo is put together; real engines, and a proxy that ends at once."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable

import pytest

from proxy import demo
from proxy.configuration.checks import MASK
from proxy.core.errors import SettingsInvalid
from proxy.embedded.dynamodb import RunningDynamoDB
from proxy.embedded.valkey import RunningStore, ask
from proxy.settings import Settings
from tests.support.ports import free_port

pytestmark = [pytest.mark.engine, pytest.mark.store]
AWS_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
)


class BriefProxy:
    """Stands where `proxy.app.run` does: notes its settings, is ready, and ends."""

    def __init__(self) -> None:
        self.settings: list[Settings] = []

    def __call__(self, settings: Settings, *, on_ready: Callable[[], None]) -> int:
        self.settings.append(settings)
        on_ready()
        return 0


@pytest.fixture
def brief_proxy(monkeypatch: pytest.MonkeyPatch) -> BriefProxy:
    """Put a proxy that ends at once in place, and give the environment back afterwards."""
    for name in AWS_VARIABLES:
        monkeypatch.setenv(name, "to be restored")
        monkeypatch.delenv(name)
    ending = BriefProxy()
    monkeypatch.setattr(demo, "run", ending)
    monkeypatch.setattr(demo, "DATA_PORT", free_port())
    monkeypatch.setattr(demo, "OPS_PORT", free_port())
    return ending


def test_demo_starts_what_is_not_named(
    brief_proxy: BriefProxy, capsys: pytest.CaptureFixture[str]
) -> None:
    """With nothing named, the demo runs on engines of its own and ends them."""
    assert demo.run_demo() == 0
    (settings,) = brief_proxy.settings
    printed = capsys.readouterr().out
    assert f"embedded Valkey at {settings.store.url}" in printed
    assert f"embedded DynamoDB at {settings.upstream.endpoint}" in printed
    assert "demo-products with 20 items" in printed
    assert "(yours)" not in printed
    port = int(str(settings.store.url).rpartition(":")[2].partition("/")[0])
    with pytest.raises(ConnectionRefusedError):
        ask(("127.0.0.1", port), "PING")


def test_demo_uses_what_is_named(
    brief_proxy: BriefProxy, valkey: RunningStore, dynamodb: RunningDynamoDB
) -> None:
    """A named store and a named endpoint are used, and go on running afterwards."""
    data, ops = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    code = demo.run_demo(
        redis_url=valkey.url, upstream_endpoint=dynamodb.endpoint, listen=data, ops_listen=ops
    )
    assert code == 0
    (settings,) = brief_proxy.settings
    assert settings.store.url == valkey.url
    assert str(settings.upstream.endpoint) == dynamodb.endpoint
    assert str(settings.listen.data) == data
    assert str(settings.listen.ops) == ops
    assert settings.store.namespace == "default"
    assert settings.store.quarantine_s == 30
    assert valkey.ask("PING") == b"+PONG\r\n"


def test_named_services_are_printed_without_the_password(
    brief_proxy: BriefProxy, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was named is said to be used, and when its first hits may come."""
    remote = "http://dynamodb.invalid:8000"
    demo.run_demo(redis_url="redis://:secret@127.0.0.1:6379/0", upstream_endpoint=remote)
    printed = capsys.readouterr().out
    assert f"store    redis://:{MASK}@127.0.0.1:6379/0 (yours)\n" in printed
    assert f"dynamodb {remote} (yours)\n" in printed
    assert "hits start up to 30 s after the store started\n" in printed
    assert "secret" not in printed


def test_new_dynamodb_never_meets_entries_of_an_earlier_one(
    brief_proxy: BriefProxy, valkey: RunningStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a named store every demo has a namespace of its own, where hits start at once."""
    for _ in range(2):
        assert demo.run_demo(redis_url=valkey.url) == 0
    first, second = (settings.store for settings in brief_proxy.settings)
    assert re.fullmatch(r"demo-[0-9a-f]{8}", first.namespace)
    assert first.namespace != second.namespace
    assert first.quarantine_s == second.quarantine_s == 0
    assert "hits start" not in capsys.readouterr().out


def test_remote_endpoint_gets_no_table_and_no_made_up_credentials(
    brief_proxy: BriefProxy, valkey: RunningStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """At an endpoint that is not on this machine the demo creates and changes nothing."""
    remote = "http://dynamodb.invalid:8000"
    assert demo.run_demo(redis_url=valkey.url, upstream_endpoint=remote) == 0
    assert "No table is created" in capsys.readouterr().out
    assert "AWS_ACCESS_KEY_ID" not in os.environ


def test_credentials_of_the_environment_are_kept(
    brief_proxy: BriefProxy,
    valkey: RunningStore,
    dynamodb: RunningDynamoDB,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Credentials that are set stay as they are."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "mine too")
    assert demo.run_demo(redis_url=valkey.url, upstream_endpoint=dynamodb.endpoint) == 0
    assert os.environ["AWS_ACCESS_KEY_ID"] == "mine"


def test_region_is_that_of_the_environment(
    brief_proxy: BriefProxy, valkey: RunningStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The demo signs for the region that AWS's own tools would use."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
    demo.run_demo(redis_url=valkey.url, upstream_endpoint="http://dynamodb.invalid")
    assert brief_proxy.settings[0].upstream.region == "eu-north-1"


def test_region_is_that_of_the_endpoint(
    brief_proxy: BriefProxy, valkey: RunningStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a region in the environment, one of AWS's own endpoints names it."""
    aws = "https://dynamodb.eu-central-1.amazonaws.com"
    demo.run_demo(redis_url=valkey.url, upstream_endpoint=aws)
    assert brief_proxy.settings[0].upstream.region is None
    assert "AWS_DEFAULT_REGION=eu-central-1" in capsys.readouterr().out


def test_taken_default_port_is_replaced_and_said(
    brief_proxy: BriefProxy,
    valkey: RunningStore,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """When nobody asked for a port and the default is in use, a free one is taken and printed."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(demo, "DATA_PORT", port)
        demo.run_demo(redis_url=valkey.url, upstream_endpoint="http://dynamodb.invalid")
    chosen = str(brief_proxy.settings[0].listen.data)
    assert chosen != f"127.0.0.1:{port}"
    assert f"{port} is in use; taking {chosen.rpartition(':')[2]}" in capsys.readouterr().out


def test_port_zero_is_chosen_before_it_is_printed(
    brief_proxy: BriefProxy, valkey: RunningStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """Asked for port 0, the demo listens on a free port and prints that port."""
    remote = "http://dynamodb.invalid"
    demo.run_demo(redis_url=valkey.url, upstream_endpoint=remote, listen="127.0.0.1:0")
    chosen = str(brief_proxy.settings[0].listen.data)
    assert not chosen.endswith(":0")
    assert f"http://{chosen}" in capsys.readouterr().out


def test_taken_port_that_was_asked_for_is_an_error(
    brief_proxy: BriefProxy, capsys: pytest.CaptureFixture[str]
) -> None:
    """A port that was asked for is never replaced: the error names it, flag and variable."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert demo.run_demo(ops_listen=f"127.0.0.1:{port}") == demo.EXIT_OPERATOR
    problem = capsys.readouterr().err
    assert f"port {port} on 127.0.0.1 is in use" in problem
    assert "--ops-listen or OPS_PORT=" in problem
    assert brief_proxy.settings == []


def test_port_out_of_range_is_refused_by_the_settings(
    brief_proxy: BriefProxy, valkey: RunningStore
) -> None:
    """A number that is no port gets the reason of the settings, not a traceback."""
    remote = "http://dynamodb.invalid"
    with pytest.raises(SettingsInvalid, match=r"listen\.data"):
        demo.run_demo(redis_url=valkey.url, upstream_endpoint=remote, listen="127.0.0.1:99999")
    assert brief_proxy.settings == []


def test_endpoint_that_does_not_answer_is_an_error(
    brief_proxy: BriefProxy, valkey: RunningStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """When the named engine on this machine does not answer, the error names it."""
    endpoint = f"http://127.0.0.1:{free_port()}"
    code = demo.run_demo(redis_url=valkey.url, upstream_endpoint=endpoint)
    assert code == demo.EXIT_OPERATOR
    assert endpoint in capsys.readouterr().err
