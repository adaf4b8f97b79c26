"""The peers that are nginx, and DynamoDB's stand-in, which is one too.

Each is one process: its master would only add a fork. All answer on one port per size.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Mapping
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Final

from proxy.embedded.process import LOOPBACK, Child, new_folder, port_is_free, spawn
from tests.bench.speed.load import answer_of
from tests.support.ports import free_port

MODULES: Final = Path("/usr/lib/nginx/modules")
LUA_MODULES: Final = ("ndk_http_module.so", "ngx_http_lua_module.so")
LUA_REDIS: Final = Path("/usr/share/lua/5.1/nginx/redis.lua")
INSTALL: Final = "apt-get install nginx wrk libnginx-mod-http-lua lua-nginx-redis"

_PART_CHARACTERS: Final = 3000  # nginx takes no word of more than 4,096 characters
_TABLE: Final = json.dumps(
    {
        "Table": {
            "TableStatus": "ACTIVE",
            "TableId": "6d2ae1d0-3a0c-4c7e-a0b1-0c1d5f0e6a55",
            "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
            "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
        }
    }
)

_MAIN: Final = """
{modules}
{user}
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  default_type application/x-amz-json-1.0;
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  client_body_buffer_size 256k;
  client_max_body_size 16m;
  client_body_in_single_buffer on;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  {inner}
}}
"""
_CACHE: Final = """
  proxy_cache_path {folder}/cache levels=1:2 keys_zone=bench:64m max_size=2g inactive=1h;
"""
_OPEN_FILES: Final = """
  open_file_cache max=20000 inactive=1h;
  open_file_cache_valid 1h;
"""
_CACHE_SERVER: Final = """
  upstream behind_{size} {{ server {behind}; keepalive 64; }}
  server {{
    listen {host}:{port};
    location / {{
      proxy_pass http://behind_{size};
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_cache bench;
      proxy_cache_methods POST;
      proxy_cache_key "$server_port$http_x_amz_target$request_body";
      proxy_cache_valid 200 1h;
    }}
  }}
"""
_LUA_SERVER: Final = """
  upstream behind_{size} {{ server {behind}; keepalive 64; }}
  server {{
    listen {host}:{port};
    location /behind {{
      internal;
      proxy_pass http://behind_{size}/;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }}
    location / {{
      content_by_lua_block {{
        local store = require("nginx.redis"):new()
        store:set_timeout(1000)
        assert(store:connect("unix:{store}"))
        ngx.req.read_body()
        local body = ngx.req.get_body_data()
        local key = "lua:" .. ngx.var.server_port .. body
        local found = assert(store:get(key))
        if found == ngx.null then
          found = ngx.location.capture("/behind", {{ method = ngx.HTTP_POST, body = body }}).body
          assert(store:set(key, found))
          assert(store:expire(key, 3600))
        end
        store:set_keepalive(60000, 1024)
        ngx.header["Content-Length"] = #found
        ngx.print(found)
      }}
    }}
  }}
"""


class RunningNginx:
    """One nginx that answers.

    Args:
        child: its process.
        ports: by size of an answer.
    """

    def __init__(self, child: Child, ports: Mapping[int, int]) -> None:
        self.child = child
        self._ports = ports

    def endpoint(self, size_bytes: int) -> str:
        """Return the URL that answers with this size."""
        return f"http://{self.address(size_bytes)}"

    def address(self, size_bytes: int) -> str:
        """Return HOST:PORT of the same."""
        return f"{LOOPBACK}:{self._ports[size_bytes]}"


class Upstream(RunningNginx):
    """DynamoDB's stand-in, which counts what it is asked.

    Args:
        child, ports: as of every other.
        status_port: where it says what it has counted.
    """

    def __init__(self, child: Child, ports: Mapping[int, int], status_port: int) -> None:
        super().__init__(child, ports)
        self._status_port = status_port
        self._looks = 0

    def requests(self) -> int:
        """Return how many requests it has had, our looks at this number left out."""
        connection = HTTPConnection(LOOPBACK, self._status_port, timeout=10.0)
        with closing(connection):
            connection.request("GET", "/")
            counted = connection.getresponse().read().decode().splitlines()[2].split()[2]
        self._looks += 1
        return int(counted) - self._looks


def missing_nginx() -> str | None:
    """Say what to install, or None when nginx is there."""
    return None if shutil.which("nginx") else f"nginx is not installed ({INSTALL})"


def missing_lua() -> str | None:
    """Say what the peer with Lua and Redis lacks, or None."""
    needed = [MODULES / name for name in LUA_MODULES] + [LUA_REDIS]
    absent = [path.name for path in needed if not path.exists()]
    return f"{', '.join(absent)} of nginx is not installed ({INSTALL})" if absent else None


def start_floor(sizes: tuple[int, ...]) -> RunningNginx:
    """Start what answers every request with the same bytes: the least that HTTP costs."""
    ports = {size: free_port() for size in sizes}
    inner = ""
    for size, port in ports.items():
        variables, answer = _answer(f"floor_{size}", answer_of(size))
        inner += variables + _server(port, f"return 200 {answer};")
    return _start("nginx-floor", inner, ports)


def start_upstream(sizes: tuple[int, ...]) -> Upstream:
    """Start DynamoDB's stand-in: one item for every key, every write accepted."""
    ports = {size: free_port() for size in sizes}
    inner = ""
    for size, port in ports.items():
        body = answer_of(size)
        variables, answer = _answer(f"item_{size}", body)
        inner += variables
        known = {"~GetItem$": (answer, body), "~DescribeTable$": (f"'{_TABLE}'", _TABLE.encode())}
        inner += f"map $http_x_amz_target $answer_{size} {{ default '{{}}';"
        inner += "".join(f" {target} {spelled};" for target, (spelled, _) in known.items()) + "}\n"
        inner += f"map $http_x_amz_target $crc32_{size} {{ default {zlib.crc32(b'{}')};"
        inner += "".join(f" {target} {zlib.crc32(raw)};" for target, (_, raw) in known.items())
        inner += "}\n" + _server(
            port,
            f"add_header x-amz-crc32 $crc32_{size};"
            " add_header x-amzn-RequestId $request_id;"
            f" return 200 $answer_{size};",
        )
    status = free_port()
    inner += f"server {{ listen {LOOPBACK}:{status}; location / {{ stub_status; }} }}\n"
    return Upstream(_start("nginx-upstream", inner, ports).child, ports, status)


def start_cache(upstream: Upstream, sizes: tuple[int, ...], *, files_open: bool) -> RunningNginx:
    """Start nginx's own cache, told to keep answers to POST by their bodies.

    Args:
        upstream: what it asks.
        sizes: of answers.
        files_open: whether it keeps its files open instead of opening one per hit.
    """
    ports = {size: free_port() for size in sizes}
    inner = _CACHE + (_OPEN_FILES if files_open else "")
    for size, port in ports.items():
        behind = upstream.address(size)
        inner += _CACHE_SERVER.format(size=size, host=LOOPBACK, port=port, behind=behind)
    return _start("nginx-cache", inner, ports)


def start_lua(upstream: Upstream, store: str, sizes: tuple[int, ...]) -> RunningNginx:
    """Start a cache in Lua over the store, whose unix socket is at `store`."""
    ports = {size: free_port() for size in sizes}
    inner = "lua_socket_log_errors off;\n"
    for size, port in ports.items():
        behind = upstream.address(size)
        inner += _LUA_SERVER.format(size=size, host=LOOPBACK, port=port, behind=behind, store=store)
    return _start("nginx-lua", inner, ports, modules=LUA_MODULES)


def _start(
    name: str, inner: str, ports: Mapping[int, int], *, modules: tuple[str, ...] = ()
) -> RunningNginx:
    folder = new_folder()
    text = _MAIN.format(
        modules="\n".join(f"load_module {MODULES / module};" for module in modules),
        user="user root;" if os.geteuid() == 0 else "",  # else it could not enter our folder
        folder=folder,
        inner=inner.replace("{folder}", str(folder)),
    )
    path = folder / "nginx.conf"
    path.write_text(text)
    command = ["nginx", "-p", str(folder), "-c", str(path), "-e", "stderr"]
    child = spawn(name, command, folder=folder)
    child.wait_until(lambda: not any(port_is_free(LOOPBACK, port) for port in ports.values()))
    return RunningNginx(child, ports)


def _server(port: int, directives: str) -> str:
    return f"server {{ listen {LOOPBACK}:{port}; location / {{ {directives} }} }}\n"


def _answer(name: str, body: bytes) -> tuple[str, str]:
    """Return the variables that hold a body, and the word that stands for it."""
    text = body.decode()
    assert not set(text) & set("'$\\"), "spelled as nginx reads it"
    if len(text) <= _PART_CHARACTERS:
        return "", f"'{text}'"
    parts = [text[at : at + _PART_CHARACTERS] for at in range(0, len(text), _PART_CHARACTERS)]
    names = [f"${name}_{index}_" for index in range(len(parts))]
    # A map is looked up when it is asked for; `set` would run for every request.
    variables = (
        f"map $host {variable} {{ default '{part}'; }}\n"
        for variable, part in zip(names, parts, strict=True)
    )
    return "".join(variables), "".join(names)
