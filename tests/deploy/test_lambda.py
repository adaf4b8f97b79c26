"""The Lambda function's template says what its code needs, and its package is all it needs."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.configuration.sources import ENVIRONMENT_PREFIX
from proxy.settings import setting_names
from tests.deploy.conftest import DEPLOY
from tests.support.lambda_function import HANDLER
from tests.support.tools import missing

FOLDER = DEPLOY / "lambda"
ROOT = DEPLOY.parent
PYTHON = ROOT / ".venv-lambda" / "bin" / "python"
README = (FOLDER / "README.md").read_text()
PSEUDO = {"AWS::Region", "AWS::AccountId", "AWS::StackName", "AWS::Partition"}


class Intrinsics(yaml.SafeLoader):
    """Reads CloudFormation's short forms: `!Ref X` as {"Ref": "X"}."""


def _intrinsic(loader: Intrinsics, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.SequenceNode):
        return {suffix: loader.construct_sequence(node, deep=True)}
    assert isinstance(node, yaml.ScalarNode)
    return {suffix: loader.construct_scalar(node)}


Intrinsics.add_multi_constructor("!", _intrinsic)


@pytest.fixture(scope="session")
def template() -> dict[str, Any]:
    """The template, parsed."""
    with (FOLDER / "template.yaml").open() as file:
        content: dict[str, Any] = yaml.load(file, Intrinsics)
    return content


def said(content: object, name: str) -> Iterator[Any]:
    """Yield the arguments of an intrinsic, wherever it is used."""
    if isinstance(content, dict):
        for key, value in content.items():
            if key == name:
                yield value
            yield from said(value, name)
    elif isinstance(content, list):
        for each in content:
            yield from said(each, name)


def test_what_the_template_refers_to_is_there(template: dict[str, Any]) -> None:
    """Parameters, resources and conditions; each parameter is used."""
    names = set(said(template, "Ref"))
    for text in said(template, "Sub"):
        names |= set(re.findall(r"\$\{(\w+)\}", text))
    known = template["Parameters"].keys() | template["Resources"].keys() | PSEUDO
    assert names <= known
    assert template["Parameters"].keys() <= names
    assert {condition for condition, *_ in said(template, "If")} == template["Conditions"].keys()


def test_mapping_never_gives_a_record_up(template: dict[str, Any]) -> None:
    """It starts with the oldest, waits for nothing, and comes again with what was not applied."""
    mapping = template["Resources"]["Mapping"]["Properties"]
    expected = {
        "StartingPosition": "TRIM_HORIZON",
        "MaximumBatchingWindowInSeconds": 0,
        "ParallelizationFactor": 1,
        "BisectBatchOnFunctionError": True,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "MaximumRetryAttempts": -1,
        "MaximumRecordAgeInSeconds": -1,
    }
    assert {name: mapping[name] for name in expected} == expected
    assert "FilterCriteria" not in mapping
    assert mapping["EventSourceArn"] == {"Ref": "StreamArn"}


def test_function_is_the_handler_in_the_stores_network(template: dict[str, Any]) -> None:
    """With settings that exist."""
    function = template["Resources"]["Function"]["Properties"]
    module, _, name = function["Handler"].partition(".")
    assert (module, f"\ndef {name}(" in HANDLER.read_text()) == (HANDLER.stem, True)
    assert function["VpcConfig"].keys() == {"SubnetIds", "SecurityGroupIds"}
    variables = set(function["Environment"]["Variables"])
    settings = {name.upper().replace(".", "__") for name in setting_names()}
    assert {
        variable.removeprefix(ENVIRONMENT_PREFIX)
        for variable in variables
        if variable.startswith(ENVIRONMENT_PREFIX)
    } <= settings
    assert '"DYNASIDE_CONFIG"' in HANDLER.read_text()
    assert {each for each in variables if not each.startswith(ENVIRONMENT_PREFIX)} == {
        "DYNASIDE_CONFIG"
    }


def test_readme_and_script_speak_of_what_the_template_runs(template: dict[str, Any]) -> None:
    """The runtime's version, the folder, the architectures and the parameters."""
    function = template["Resources"]["Function"]["Properties"]
    script = (FOLDER / "package.sh").read_text()
    version = function["Runtime"].removeprefix("python")
    assert f"python=${{3:-{version}}}" in script
    assert f"Python {version}" in README
    assert f"deploy/lambda/{function['CodeUri']}".rstrip("/") in README
    for architecture in template["Parameters"]["Architecture"]["AllowedValues"]:
        assert f"\n{architecture}) " in script
        assert f"`{architecture}`" in README or f" {architecture}\n" in README
    for name in re.findall(r"`((?:Store|Source|LagMax)\w*)[`=]", README):
        assert name in template["Parameters"]


def imported(path: Path) -> Iterator[str]:
    """Yield what a file imports, at its top or later, by full names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_lock_names_what_the_function_may_ever_import() -> None:
    """Also what is loaded only when it is needed, such as for an entry that is compressed."""
    left, seen, libraries = [HANDLER], set[Path](), set[str]()
    while left:
        path = left.pop()
        seen.add(path)
        for name in imported(path):
            inner = ROOT / (name.replace(".", "/") + ".py")
            if name.startswith("proxy.") and inner.exists() and inner not in seen:
                left.append(inner)
            elif not name.startswith("proxy"):
                libraries.add(name.partition(".")[0])
    libraries -= sys.stdlib_module_names | {"__future__"}
    wanted = (ROOT / "requirements" / "lambda.in").read_text().splitlines()
    named = {line.replace("pyyaml", "yaml") for line in wanted if not line.startswith("#")}
    assert libraries - {"pydantic_core"} == named  # which comes with pydantic


def package(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script."""
    command = [str(FOLDER / "package.sh"), *([str(folder)] if arguments else []), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("arguments", [(), ("mips",)])
def test_script_says_what_it_wants(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Without a folder, or with another architecture."""
    done = package(tmp_path, *arguments)
    assert done.returncode == 2
    assert "x86_64" in done.stdout + done.stderr


def test_package_runs_with_what_it_names_alone(tmp_path: Path) -> None:
    """Where nothing is installed but the wheels of its lock: the code needs no more."""
    if not PYTHON.exists():
        missing(".venv-lambda", install="make setup")
    done = package(tmp_path, "none")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"handler.py", "proxy"}
    assert not list(tmp_path.rglob("__pycache__"))
    # Isolated: neither this project's folder nor the environment of the tests is looked at.
    program = f"""
import json, sys
sys.path.insert(0, {str(tmp_path)!r})
import handler
function = handler.Function({{
    "AWS_REGION": "eu-central-1", "DYNASIDE__STORE__URL": "redis://127.0.0.1:1",
}})
class Context:
    def get_remaining_time_in_millis(self): return 1000
print(json.dumps(function({{"Records": []}}, Context())))
function.close()
print(json.dumps(sys.modules["proxy.flow.stream_effects"].__file__))
"""
    command = [str(PYTHON), "-I", "-B", "-c", program]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr
    *_, answer, place = ran.stdout.splitlines()
    assert json.loads(answer) == {"batchItemFailures": []}
    assert json.loads(place) == str(tmp_path / "proxy" / "flow" / "stream_effects.py")
