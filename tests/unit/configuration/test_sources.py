"""Claims about `proxy.configuration.sources`."""

import os
from pathlib import Path
from typing import Any

import pytest

from proxy.configuration.sources import (
    Given,
    Layer,
    from_aws_environment,
    from_environment,
    from_file,
    from_flags,
    from_secrets,
)


def values_of(layer: Layer) -> dict[str, Any]:
    """Return the values of a layer by dotted name."""
    return {".".join(path): given.value for path, given in layer.values.items()}


def written(folder: Path, text: str) -> Path:
    """Write a configuration file and return its path."""
    path = folder / "config.yaml"
    path.write_text(text)
    return path


def test_flags_are_named_as_on_the_command_line() -> None:
    """A flag's source is what was typed; None means not given."""
    layer = from_flags({"store.url": "u", "store.lanes": 3, "workers": None})
    assert layer.values == {
        ("store", "url"): Given("u", "flag --redis-url"),
        ("store", "lanes"): Given(3, "flag store.lanes"),
    }


def test_flag_for_a_section_is_refused() -> None:
    """A flag sets one setting, not a section."""
    assert from_flags({"store": "x"}).problems == ["store: must be a mapping (flag store)"]


def test_environment_is_nested_by_two_underscores() -> None:
    """A variable names section and setting; empty and foreign ones are left alone."""
    layer = from_environment(
        {
            "DYNASIDE__STORE__TIMEOUT_S": "1",
            "DYNASIDE__WORKERS": "",
            "DYNASIDE_PORT": "x",
            "A__B": "1",
        }
    )
    source = "environment DYNASIDE__STORE__TIMEOUT_S"
    assert layer.values == {("store", "timeout_s"): Given("1", source)}
    assert layer.problems == []


def test_environment_keeps_a_tables_name_as_it_is() -> None:
    """A table's name keeps its case and may hold the separator."""
    layer = from_environment({"DYNASIDE__TABLES__My__Table__GRACE_S": "1"})
    assert values_of(layer) == {"tables.My__Table.grace_s": "1"}


def test_environment_may_hold_a_section_as_yaml() -> None:
    """A section's variable is read as YAML and must hold a mapping."""
    layer = from_environment(
        {
            "DYNASIDE__TABLES": "{Orders: {grace_s: 1}}",
            "DYNASIDE__TABLES__Other": "{}",
            "DYNASIDE__STORE": "5",
            "DYNASIDE__LOG": "{",
        }
    )
    assert values_of(layer) == {"tables.Orders.grace_s": 1, "tables.Other": {}}
    assert layer.problems == [
        "log: is not a YAML mapping (environment DYNASIDE__LOG)",
        "store: must be a mapping (environment DYNASIDE__STORE)",
    ]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("DYNASIDE__STORE__URI", "store.uri: is not a setting; did you mean store.url?"),
        ("DYNASIDE__HTTP__LANES", "http.lanes: is not a setting; did you mean store.lanes?"),
        (
            "DYNASIDE__TABLES__Orders__GRACES",
            "tables.Orders.graces: is not a setting; did you mean tables.Orders.grace_s?",
        ),
        ("DYNASIDE__QQQQQQQQQQQQ", "qqqqqqqqqqqq: is not a setting"),
        (
            "DYNASIDE_STORE__URL",
            "DYNASIDE_STORE__URL: is not read; did you mean DYNASIDE__STORE__URL?",
        ),
    ],
)
def test_unknown_variable_is_refused_with_a_suggestion(name: str, problem: str) -> None:
    """A variable that sets nothing is an error that names what may be meant."""
    layer = from_environment({name: "1"})
    assert layer.values == {}
    assert layer.problems == [f"{problem} (environment {name})"]


@pytest.mark.parametrize("name", ["DYNASIDE_A__B", "DYNASIDE_STORE", "DYNASIDEX__STORE__URL"])
def test_foreign_variable_is_left_alone(name: str) -> None:
    """Variables that only look similar, such as Kubernetes' service links, are not ours."""
    assert from_environment({name: "1"}) == Layer()


def test_region_comes_from_awss_variables_in_their_order() -> None:
    """AWS_REGION wins over AWS_DEFAULT_REGION, and an empty one counts as not set."""
    both = {"AWS_DEFAULT_REGION": "eu-west-1", "AWS_REGION": "us-west-2"}
    assert values_of(from_aws_environment(both)) == {"upstream.region": "us-west-2"}
    source = Given("eu-west-1", "environment AWS_DEFAULT_REGION")
    assert from_aws_environment(both | {"AWS_REGION": ""}).values == {
        ("upstream", "region"): source
    }


def test_file_gives_each_value_its_place(tmp_path: Path) -> None:
    """A value's source is the file and the setting; empty sections give nothing."""
    path = written(tmp_path, "store: {timeout_s: 1}\nlog:\ntables: {Orders: }\n")
    source = f"{path}: store.timeout_s"
    assert from_file(path).values == {("store", "timeout_s"): Given(1, source)}


@pytest.mark.parametrize("text", ["", "# nothing\n", "tables: {}\n"])
def test_empty_file_gives_nothing(tmp_path: Path, text: str) -> None:
    """A file without settings is allowed."""
    assert from_file(written(tmp_path, text)) == Layer()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("stor: {}", ": stor)"),
        ("store: 5", "store: must be a mapping"),
        ("true: 5", "name True needs quotes"),
        ("- a", "must hold a mapping of sections"),
        ("store: {lanes: 1, lanes: 2}", "is not YAML: lanes is given twice (line 1)"),
        ("store:\n  password: 'hidden\n", "is not YAML: found unexpected end of stream (line 3)"),
        ("store: !!python/name:os.system", "is not YAML: could not determine a constructor"),
        ("\x00", "is not YAML: it is not plain text"),
        ("{[]: 1}", "is not YAML"),
    ],
)
def test_unreadable_file_is_refused_without_quoting_it(
    tmp_path: Path, text: str, problem: str
) -> None:
    """What cannot be read as settings is a problem that does not repeat a secret."""
    layer = from_file(written(tmp_path, text))
    assert layer.values == {}
    assert len(layer.problems) == 1
    assert problem in layer.problems[0]
    assert "hidden" not in layer.problems[0]


def test_missing_file_is_refused(tmp_path: Path) -> None:
    """A file that was named must exist."""
    path = tmp_path / "absent.yaml"
    assert from_file(path).problems == [f"{path}: cannot be read: No such file or directory"]


def test_secret_files_give_their_content(tmp_path: Path) -> None:
    """A file is named like the setting; the line end is not part of it, other files are."""
    (tmp_path / "store__password").write_text("p w \n")
    (tmp_path / "tls.crt").write_text("x")
    (tmp_path / "..data").mkdir()
    source = f"secret file {tmp_path / 'store__password'}"
    layer = from_secrets({"DYNASIDE_SECRETS_DIR": str(tmp_path)})
    assert layer == Layer(values={("store", "password"): Given("p w ", source)})


def test_secret_file_of_an_unknown_setting_is_refused(tmp_path: Path) -> None:
    """A misspelt secret file is an error, and so is one that cannot be read."""
    (tmp_path / "store__pasword").write_text("hidden")
    (tmp_path / "store__password").mkdir()
    (tmp_path / "store__username").write_bytes(b"\xff")
    problems = from_secrets({"DYNASIDE_SECRETS_DIR": str(tmp_path)}).problems
    assert [problem.partition(" (secret file")[0] for problem in problems] == [
        f"store.password: cannot be read: {os.strerror(21)}",
        "store.pasword: is not a setting; did you mean store.password?",
        "store.username: cannot be read: it is not UTF-8",
    ]


def test_missing_secrets_directory_matters_only_when_named(tmp_path: Path) -> None:
    """The default directory may be absent; one that the environment names may not."""
    assert from_secrets({}).problems == []
    absent = str(tmp_path / "absent")
    assert from_secrets({"DYNASIDE_SECRETS_DIR": absent}).problems == [
        f"secrets: {absent} is not a directory (environment DYNASIDE_SECRETS_DIR)"
    ]
