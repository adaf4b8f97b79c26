"""Claims about `proxy.edge.credentials`: the keeper on a stepped clock, the chain over sockets."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from botocore.exceptions import ClientError

from proxy.core.values import Token
from proxy.edge.credentials import (
    NO_CREDENTIALS,
    RETRY_S_MAX,
    WATCH_S,
    CredentialsKeeper,
    Loaded,
    botocore_chain,
    profile_files,
)
from proxy.edge.sigv4 import Credentials
from proxy.flow.events import CredentialsChanged, Event

START_S = 1_000_000.0
OLD = Credentials("AKIDOLD", "old", "old-token")
NEW = Credentials("AKIDNEW", "new", "new-token")
FAR = dt.datetime.fromtimestamp(time.time() + 6 * 3600, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class SteppedClock:
    """A clock that moves only when told to, and only once its user sleeps."""

    def __init__(self) -> None:
        self.now_s = START_S
        self._asleep: asyncio.Queue[tuple[float, asyncio.Event]] = asyncio.Queue()

    def wall_s(self) -> float:
        return self.now_s

    def monotonic_s(self) -> float:
        return self.now_s

    async def sleep(self, delay_s: float) -> None:
        woken = asyncio.Event()
        self._asleep.put_nowait((delay_s, woken))
        await woken.wait()

    def uniform(self, low: float, high: float) -> float:
        return high

    def token(self) -> Token:
        return Token(bytes(16))

    async def step(self) -> float:
        """Wait until the user sleeps, let that time pass; return it."""
        delay_s, woken = await self._asleep.get()
        self.now_s += delay_s
        woken.set()
        return delay_s


class ScriptedChain:
    """Answers each load with the next of the given results; the last one stays."""

    def __init__(self, clock: SteppedClock, *results: Loaded | Exception | None) -> None:
        self._clock = clock
        self._results = list(results)
        self.loads_at_s: list[float] = []

    async def __call__(self) -> Loaded | None:
        self.loads_at_s.append(self._clock.now_s - START_S)
        result = self._results.pop(0) if len(self._results) > 1 else self._results[0]
        if isinstance(result, Exception):
            raise result
        return result

    async def loaded(self, times: int) -> None:
        """Let time pass until so many loads were begun and ended."""
        while len(self.loads_at_s) < times:
            await self._clock.step()


class Kept:
    """A keeper under test with all that surrounds it."""

    def __init__(self, *results: Loaded | Exception | None, watched: tuple[str, ...] = ()) -> None:
        self.clock = SteppedClock()
        self.chain = ScriptedChain(self.clock, *results)
        self.events: list[Event] = []
        self.keeper = CredentialsKeeper(
            self.chain, clock=self.clock, emit=self.events.append, watched=watched
        )


@asynccontextmanager
async def started(kept: Kept) -> AsyncIterator[Kept]:
    """Run the keeper until the end of the block."""
    kept.keeper.start()
    try:
        yield kept
    finally:
        await kept.keeper.close()


def lasting(credentials: Credentials, expires_in_s: float | None, source: str = "iam") -> Loaded:
    """Return a set that expires so long after the start."""
    return Loaded(credentials, source, None if expires_in_s is None else START_S + expires_in_s)


async def test_nothing_is_there_before_the_first_load() -> None:
    """Until the chain has been walked there are no credentials, and asking does not wait."""
    kept = Kept(lasting(OLD, None))
    assert kept.keeper.current() is None
    assert not await kept.keeper.wait_first(0.0)
    async with started(kept):
        assert await kept.keeper.wait_first(20.0)
        assert kept.keeper.current() == OLD
    assert kept.events == [CredentialsChanged("iam", None)]


async def test_failed_first_load_ends_the_first_wait() -> None:
    """Whoever waits for the first walk learns that it found nothing."""
    async with started(Kept(None)) as kept:
        assert not await kept.keeper.wait_first(20.0)
        assert kept.events == [CredentialsChanged("none", NO_CREDENTIALS)]


async def test_closing_unstarted_keeper_does_nothing() -> None:
    """A start that failed elsewhere may close a keeper that never ran."""
    await Kept(None).keeper.close()


async def test_refresh_comes_well_before_expiry() -> None:
    """A set for an hour is renewed a quarter of an hour before its end, at about that time."""
    async with started(Kept(lasting(OLD, 3600), lasting(NEW, 7200))) as kept:
        await kept.chain.loaded(3)
        assert kept.chain.loads_at_s == [0, 3600 - 14 * 60, 7200 - 14 * 60]
        assert kept.keeper.current() == NEW
    assert kept.events == [CredentialsChanged("iam", None), CredentialsChanged("iam", None)]


async def test_short_lived_set_is_renewed_after_two_thirds() -> None:
    """A set for less than the margin is renewed in time and not in a busy loop."""
    async with started(Kept(lasting(OLD, 90))) as kept:
        await kept.chain.loaded(4)
        assert kept.chain.loads_at_s == pytest.approx([0, 30, 50, 63.333333])


async def test_last_good_set_serves_until_it_expires() -> None:
    """While no new set can be had, the old one is used to its last second, and no longer."""
    refused = ClientError({"Error": {"Code": "AccessDenied", "Message": "secret"}}, "AssumeRole")
    async with started(Kept(lasting(OLD, 3600), refused)) as kept:
        await kept.chain.loaded(4)
        kept.clock.now_s = START_S + 3599.9
        assert kept.keeper.current() == OLD
        kept.clock.now_s = START_S + 3600
        assert kept.keeper.current() is None
    assert kept.events[1] == CredentialsChanged("iam", "ClientError: AccessDenied")


async def test_failures_are_retried_ever_more_slowly() -> None:
    """Failed loads are repeated after 1, 2, 4 … seconds, at most a minute."""
    async with started(Kept(OSError("a secret"))) as kept:
        await kept.chain.loaded(10)
    waits = [later - sooner for sooner, later in itertools.pairwise(kept.chain.loads_at_s)]
    assert waits == [1, 2, 4, 8, 16, 32, RETRY_S_MAX, RETRY_S_MAX, RETRY_S_MAX]
    assert set(kept.events) == {CredentialsChanged("none", "OSError")}


async def test_whatever_a_provider_raises_is_a_failed_load() -> None:
    """A credential program may print anything: the keeper tells it and tries again."""
    odd = AttributeError("'list' object has no attribute 'get'")
    async with started(Kept(odd, lasting(OLD, None))) as kept:
        await kept.chain.loaded(2)
        assert kept.keeper.current() == OLD
    assert kept.events[0] == CredentialsChanged("none", "AttributeError")


async def test_success_after_failures_ends_the_retries() -> None:
    """Once a load works, the next is due by expiry again, and after it the retries start anew."""
    down = OSError()
    async with started(Kept(down, down, lasting(OLD, 3600), down, lasting(NEW, 9000))) as kept:
        await kept.chain.loaded(5)
        assert kept.keeper.current() == NEW
    assert kept.chain.loads_at_s == [0, 1, 3, 2760, 2761]


@pytest.mark.parametrize("change", ["write", "remove", "replace"])
async def test_changed_profile_file_is_read_again(tmp_path: Path, change: str) -> None:
    """A file that is written, removed or replaced leads to a load at the next look at it."""
    path, other = tmp_path / "credentials", tmp_path / "other"
    path.write_text("old")
    other.write_text("new")
    changes: dict[str, Callable[[], object]] = {
        "write": lambda: path.write_text("longer"),
        "remove": path.unlink,
        "replace": lambda: other.replace(path),
    }
    results = lasting(OLD, None, "file"), lasting(NEW, None, "file")
    async with started(Kept(*results, watched=(str(path),))) as kept:
        assert await kept.clock.step() == WATCH_S
        assert await kept.clock.step() == WATCH_S
        assert len(kept.chain.loads_at_s) == 1
        changes[change]()
        await kept.clock.step()
        await kept.clock.step()
        assert kept.keeper.current() == NEW


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Give an AWS environment in which no provider of the chain finds anything."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    return monkeypatch


@asynccontextmanager
async def serving(answer: Callable[[str], web.Response]) -> AsyncIterator[tuple[str, list[str]]]:
    """Run an HTTP server; give its address and the list of what it was asked."""
    asked: list[str] = []

    async def serve(request: web.Request) -> web.Response:
        asked.append(f"{request.method} {request.path} {await request.text()}")
        return answer(request.path)

    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", serve)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    finally:
        await runner.cleanup()


async def test_chain_finds_nothing_where_nothing_is(aws: pytest.MonkeyPatch) -> None:
    """With every provider empty and instance metadata disabled the walk ends at once with None."""
    assert await botocore_chain()() is None


def test_the_environment_needs_no_aiobotocore() -> None:
    """What asks STS and metadata is imported only when they are asked: a start has a bound."""
    program = (
        "import asyncio, os, sys, proxy.app\n"
        "from proxy.edge.credentials import botocore_chain\n"
        "os.environ.update(AWS_ACCESS_KEY_ID='AKIDENV', AWS_SECRET_ACCESS_KEY='secret')\n"
        "assert asyncio.run(botocore_chain()()).source == 'env'\n"
        "assert 'aiobotocore' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


async def test_chain_reads_the_environment(aws: pytest.MonkeyPatch) -> None:
    """Keys in the environment are found and never expire."""
    aws.setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
    aws.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert await botocore_chain()() == Loaded(Credentials("AKIDENV", "secret"), "env", None)


async def test_chain_keeps_the_expiry_of_the_environment(aws: pytest.MonkeyPatch) -> None:
    """Keys in the environment may be temporary, and say until when."""
    aws.setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
    aws.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    aws.setenv("AWS_SESSION_TOKEN", "token")
    aws.setenv("AWS_CREDENTIAL_EXPIRATION", FAR)
    expires_wall_s = dt.datetime.fromisoformat(FAR).timestamp()
    expected = Loaded(Credentials("AKIDENV", "secret", "token"), "env", expires_wall_s)
    assert await botocore_chain()() == expected


async def test_a_named_profile_goes_before_the_environment(
    aws: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As in botocore: who names a profile wants that one."""
    aws.setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
    aws.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    text = "[mine]\naws_access_key_id = AKIDMINE\naws_secret_access_key = secret\n"
    (tmp_path / "credentials").write_text(text)
    found = await botocore_chain(profile="mine")()
    assert found is not None
    assert found.credentials.access_key == "AKIDMINE"


async def test_chain_reads_a_rotated_profile_file_again(
    aws: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each walk reads the profile's file as it is then; the file is among those to be watched."""
    assert profile_files() == (str(tmp_path / "credentials"), str(tmp_path / "config"))
    load = botocore_chain(profile="mine")
    text = "[mine]\naws_access_key_id = {}\naws_secret_access_key = secret\n"
    for access_key in ("AKIDFIRST", "AKIDSECOND"):
        (tmp_path / "credentials").write_text(text.format(access_key))
        found = await load()
        assert found is not None
        assert found.credentials.access_key == access_key


def expiring_keys(access_key: str) -> dict[str, str]:
    """Return a credentials document as containers and instances serve it."""
    return {
        "Code": "Success",
        "AccessKeyId": access_key,
        "SecretAccessKey": "secret",
        "Token": "token",
        "Expiration": FAR,
    }


async def test_chain_asks_the_containers_endpoint(aws: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """ECS and EKS Pod Identity credentials are found, with their expiry, by every walk."""
    token = tmp_path / "token"
    token.write_text("pod-token")
    async with serving(lambda _path: web.json_response(expiring_keys("AKIDPOD"))) as (url, asked):
        aws.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/pod")
        aws.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(token))
        load = botocore_chain()
        expires_wall_s = dt.datetime.fromisoformat(FAR).timestamp()
        expected = Loaded(
            Credentials("AKIDPOD", "secret", "token"), "container-role", expires_wall_s
        )
        assert await load() == expected
        assert await load() == expected
        assert len(asked) == 2


async def test_chain_asks_sts_with_the_token_file(aws: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Web identity works while AWS_ENDPOINT_URL names this proxy, and rereads the token file."""
    document = (
        '<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
        "<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>AKIDWEB</AccessKeyId>"
        "<SecretAccessKey>secret</SecretAccessKey><SessionToken>token</SessionToken>"
        f"<Expiration>{FAR}</Expiration></Credentials></AssumeRoleWithWebIdentityResult>"
        "</AssumeRoleWithWebIdentityResponse>"
    )
    token = tmp_path / "token"
    aws.setenv("AWS_ROLE_ARN", "arn:aws:iam::000000000000:role/pod")
    aws.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    aws.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    async with serving(lambda _path: web.Response(text=document)) as (url, asked):
        aws.setenv("AWS_ENDPOINT_URL_STS", url)
        load = botocore_chain(region="eu-west-1")
        for text in ("first-token", "second-token"):
            token.write_text(text)
            found = await load()
            assert found is not None
            assert found.source == "assume-role-with-web-identity"
            assert found.credentials == Credentials("AKIDWEB", "secret", "token")
            assert f"WebIdentityToken={text}" in asked[-1]


async def test_chain_asks_instance_metadata(aws: pytest.MonkeyPatch) -> None:
    """An instance's role is found by way of the metadata service."""
    role_path = "/latest/meta-data/iam/security-credentials/"

    def answer(path: str) -> web.Response:
        if path == "/latest/api/token":
            return web.Response(text="imds-token")
        if path == role_path:
            return web.Response(text="the-role")
        return web.Response(text=json.dumps(expiring_keys("AKIDIMDS")))

    async with serving(answer) as (url, asked):
        aws.setenv("AWS_EC2_METADATA_DISABLED", "false")
        aws.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)
        found = await botocore_chain()()
    assert found is not None
    assert (found.credentials.access_key, found.source) == ("AKIDIMDS", "iam-role")
    assert asked[-1].startswith(f"GET {role_path}the-role")


async def test_half_written_profile_file_keeps_the_last_set(
    aws: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file that cannot be parsed is a failed load; the last good set goes on serving."""
    path = tmp_path / "credentials"
    path.write_text("[default]\naws_access_key_id = AKID\naws_secret_access_key = secret\n")
    clock, events = SteppedClock(), list[Event]()
    keeper = CredentialsKeeper(
        botocore_chain(), clock=clock, emit=events.append, watched=profile_files()
    )
    keeper.start()
    try:
        assert await keeper.wait_first(20.0)
        path.write_text("[default\naws_acc")
        await clock.step()
        await clock.step()
        assert events[-1] == CredentialsChanged("shared-credentials-file", "ConfigParseError")
        assert keeper.current() == Credentials("AKID", "secret")
    finally:
        await keeper.close()
