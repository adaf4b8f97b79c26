"""Keeps the process's AWS credentials loaded, by aiobotocore's chain, and refreshes them early.

Environment, profile, web identity, container (ECS, EKS Pod Identity) and instance metadata, in
botocore's order. Signing reads `current()` and never waits; one background task does the loading.

botocore's own refreshing is not used: it raises ten minutes *before* the old credentials expire
when they cannot be renewed. Here the last good ones serve until they really expire. Each load walks
the whole chain in a new botocore session, so that rotated files are read again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from botocore.credentials import EnvProvider
from botocore.exceptions import ClientError
from botocore.loaders import create_loader
from botocore.session import Session

from proxy.edge.sigv4 import Credentials
from proxy.flow.events import CredentialsChanged, Emit
from proxy.flow.ports import Clock

REFRESH_BEFORE_S: Final = 14 * 60.0  # just inside the 15 minutes in which botocore renews
RETRY_S_MIN: Final = 1.0
RETRY_S_MAX: Final = 60.0
WATCH_S: Final = 10.0  # how soon a changed profile file is noticed

NO_CREDENTIALS: Final = "none found in the environment, profile, container or instance metadata"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What one walk through the chain found.

    Args:
        credentials: to sign with.
        source: the provider's name for itself, `env`, `assume-role-with-web-identity`, …
        expires_wall_s: seconds since the epoch, or None when they never expire.
    """

    credentials: Credentials
    source: str
    expires_wall_s: float | None


Load = Callable[[], Awaitable[Loaded | None]]
"""Walks the chain once; None when no provider has credentials; may raise anything."""


class CredentialsKeeper:
    """Own the credentials to sign with, from `start` to `close`.

    Args:
        load: walks the chain, `botocore_chain()` in the product.
        clock: wall time for expiry, sleeping, and the jitter of retries.
        emit: gets CredentialsChanged for each new set and each failed load.
        watched: files whose change leads to a new load.
    """

    def __init__(
        self, load: Load, *, clock: Clock, emit: Emit, watched: tuple[str, ...] = ()
    ) -> None:
        self._load = load
        self._clock = clock
        self._emit = emit
        self._watched = watched
        self._loaded: Loaded | None = None
        self._failures = 0
        self._tried = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to load in the background; needs a running loop, returns at once."""
        assert self._task is None, "started twice"
        self._task = asyncio.create_task(self._keep(), name="credentials")

    async def close(self) -> None:
        """End the background task; `current` goes on returning what it had."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def current(self) -> Credentials | None:
        """Return the credentials to sign with now; None before the first and after the last."""
        loaded = self._loaded
        if loaded is None:
            return None
        if loaded.expires_wall_s is not None and self._clock.wall_s() >= loaded.expires_wall_s:
            return None
        return loaded.credentials

    async def wait_first(self, timeout_s: float) -> bool:
        """Wait until the first walk through the chain has ended; tell whether it found any."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._tried.wait()
        except TimeoutError:
            return False
        return self.current() is not None

    async def _keep(self) -> None:
        while True:
            seen = _changes(self._watched)
            await self._load_once()
            self._tried.set()
            await self._wait(self._next_load_in_s(), seen)

    async def _load_once(self) -> None:
        try:
            loaded = await self._load()
        except Exception as error:  # noqa: BLE001 - a provider may run any program and raise anything
            self._note_failure(_without_secrets(error))
            return
        if loaded is None:
            self._note_failure(NO_CREDENTIALS)
            return
        self._failures = 0
        renewed = self._loaded is None or self._loaded.credentials != loaded.credentials
        self._loaded = loaded
        if renewed:
            self._emit(CredentialsChanged(loaded.source, None))

    def _note_failure(self, problem: str) -> None:
        self._failures += 1
        source = "none" if self._loaded is None else self._loaded.source
        self._emit(CredentialsChanged(source, problem))

    def _next_load_in_s(self) -> float | None:
        """Return the seconds until the next load, or None when only a changed file asks for one."""
        if self._failures:
            # The exponent is bounded before it is raised: an outage may last for days.
            backoff_s = RETRY_S_MIN * 2.0 ** min(self._failures - 1, 16)
            return min(backoff_s, RETRY_S_MAX) * self._clock.uniform(0.5, 1.0)
        assert self._loaded is not None, "a load neither failed nor found anything"
        if self._loaded.expires_wall_s is None:
            return None
        left_s = self._loaded.expires_wall_s - self._clock.wall_s()
        # A third of what is left, where all of it is shorter than the margin: a load that brought
        # the old set again (the instance has no newer yet) is so repeated ever more often.
        return max(left_s - REFRESH_BEFORE_S, left_s / 3, RETRY_S_MIN)

    async def _wait(self, delay_s: float | None, seen: tuple[object, ...]) -> None:
        waited_s = 0.0
        while delay_s is None or waited_s < delay_s:
            step_s = WATCH_S if delay_s is None else min(WATCH_S, delay_s - waited_s)
            await self._clock.sleep(step_s)
            waited_s += step_s
            if _changes(self._watched) != seen:
                return


def botocore_chain(*, profile: str | None = None, region: str | None = None) -> Load:
    """Return a walk through aiobotocore's whole chain.

    Args:
        profile: a profile's name, or None for the active one.
        region: where STS is asked, or None for the profile's own region.
    """
    # Shared by all walks: parsing the model of STS costs 50 ms, once.
    loader = create_loader()

    async def load() -> Loaded | None:
        # First in the chain, unless a profile is named; needs nothing of what costs time to import.
        found = EnvProvider().load() if profile is None else None
        if found is not None and _expires_wall_s(found) is None:
            return _loaded(found, found.get_frozen_credentials())
        from aiobotocore.session import AioSession  # noqa: PLC0415 - 50 ms and 10 MB

        session = AioSession(profile=profile)
        session.register_component("data_loader", loader)
        if region is not None:
            session.set_config_variable("region", region)
        # A global AWS_ENDPOINT_URL names this proxy, which is no STS.
        ignored = "AWS_ENDPOINT_URL_STS" not in os.environ
        session.set_config_variable("ignore_configured_endpoint_urls", ignored)
        found = await session.get_credentials()
        if found is None:
            return None
        return _loaded(found, await found.get_frozen_credentials())

    return load


def _loaded(found: Any, frozen: Any) -> Loaded:
    credentials = Credentials(frozen.access_key, frozen.secret_key, frozen.token)
    return Loaded(credentials, found.method, _expires_wall_s(found))


def profile_files() -> tuple[str, ...]:
    """Return the paths of the shared credentials and config files, whether they exist or not."""
    session = Session()
    names = ("credentials_file", "config_file")
    return tuple(os.path.expanduser(session.get_config_variable(name)) for name in names)  # noqa: PTH111 - botocore's own way, which keeps what it cannot expand


def _expires_wall_s(found: Any) -> float | None:
    # Only sets that can be refreshed have the member; botocore has no public way to ask.
    expires = getattr(found, "_expiry_time", None)
    return None if expires is None else float(expires.timestamp())


def _without_secrets(error: Exception) -> str:
    """Name an error by class and AWS code; a provider's own text may quote what it was given."""
    if isinstance(error, ClientError):
        return f"ClientError: {error.response.get('Error', {}).get('Code', 'unknown')}"
    return type(error).__name__


def _changes(paths: tuple[str, ...]) -> tuple[object, ...]:
    """Return what differs after any of the files was written, replaced, made or removed."""
    return tuple(map(_stamp, paths))


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - a plain path as botocore gives it
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)
