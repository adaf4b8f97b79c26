"""One Redis or Valkey process that may be stopped, killed and started again with the data it left.

It keeps its port and its folder of data over all starts. Like every engine it is tied to the
process that started it (`proxy.embedded.process`).
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from proxy.embedded.process import LOOPBACK, Child, EngineError, new_folder, spawn
from proxy.embedded.valkey import ask, redis_binary, valkey_binary
from tests.support.ports import free_port

MAXMEMORY: Final = "64mb"
SNAPSHOT: Final = "dump.rdb"


def server_binary(name: str) -> Path:
    """Return the program of the embedded `valkey`, or of the machine's own `redis`.

    Raises:
        EngineError: it is not installed.
    """
    found = {"valkey": valkey_binary, "redis": redis_binary}[name]()
    if found is None:
        raise EngineError(f"no {name}-server: run `make setup`, or apt install redis-server")
    return found


@dataclass
class RedisServer:
    """A server; `start` and `wait` before anything else, `close` at the end.

    Args:
        binary: the program.
        flags: more of its settings, by name.
        port: where on loopback; a free one by default.
        data: its working directory, removed by `close`.
        sentinel: lines of its configuration, which it rewrites, if it is one.
    """

    binary: Path
    flags: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    data: Path = field(default_factory=new_folder)
    sentinel: str = ""
    _child: Child | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return LOOPBACK, self.port

    @property
    def child(self) -> Child:
        """The present process."""
        assert self._child is not None, "not started"
        return self._child

    def start(self) -> None:
        """Start the process over the data that are there, without waiting; main thread only."""
        words: list[str] = []
        if self.sentinel:
            file = self.data / "sentinel.conf"
            file.write_text(self.sentinel)
            words += [str(file), "--sentinel"]
        flags = {
            "port": str(self.port),
            "bind": LOOPBACK,
            "dir": str(self.data),
            **self.flags,
        }
        words += [word for name, text in flags.items() for word in _flag(name, text)]
        command = [str(self.binary), *words]
        self._child = spawn(self.binary.name, command, folder=new_folder())

    def wait(self) -> None:
        """Return once it answers; raises EngineError when it never does."""
        # Its own process id in the answer: somebody else's server on that port does not count.
        mine = f"process_id:{self.child.pid}\r\n".encode()
        self.child.wait_until(lambda: mine in self._about())

    def ask(self, *words: str) -> bytes:
        """Send one command and return the beginning of the raw reply.

        Raises:
            OSError: nobody listens there, or no answer came within 2 s.
            EngineError: the reply is an error.
        """
        reply = ask(self.address, *words)
        if reply.startswith(b"-"):
            raise EngineError(f"{words[0]} on port {self.port}: {reply.decode().strip()}")
        return reply

    def info(self, section: str) -> dict[str, str]:
        """Return the fields of one section of INFO."""
        lines = self.ask("INFO", section).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it still runs."""
        if self.child.process.poll() is None:
            os.kill(self.child.pid, number)

    def kill(self, *, keep_data: bool) -> None:
        """End the process by SIGKILL; without `keep_data` the next start is an empty one."""
        self.send(signal.SIGKILL)
        self.child.process.wait()
        self.child.stop()
        if not keep_data:
            (self.data / SNAPSHOT).unlink(missing_ok=True)

    def close(self) -> None:
        """End the process and remove its data; may be called twice."""
        if self._child is not None:
            self.kill(keep_data=False)
        shutil.rmtree(self.data, ignore_errors=True)

    def _about(self) -> bytes:
        try:
            return ask(self.address, "INFO", "server")
        except OSError:
            return b""


def data_server(binary: Path, *, replica_of: int | None = None) -> RedisServer:
    """Return a server for data, not yet started: no persistence, and it evicts nothing.

    Args:
        binary: the program.
        replica_of: port of its primary.
    """
    flags = {
        "save": "",
        "appendonly": "no",
        "maxmemory": MAXMEMORY,
        "maxmemory-policy": "noeviction",
        "repl-diskless-sync-delay": "0",
    }
    if replica_of is not None:
        flags["replicaof"] = f"{LOOPBACK} {replica_of}"
    return RedisServer(binary, flags)


def promote(replica: RedisServer) -> None:
    """Make a replica a primary, which it stays when it is started again."""
    replica.ask("REPLICAOF", "NO", "ONE")
    replica.flags = {name: text for name, text in replica.flags.items() if name != "replicaof"}


def _flag(name: str, text: str) -> tuple[str, ...]:
    return (f"--{name}", *(text.split(" ") if text else [""]))
