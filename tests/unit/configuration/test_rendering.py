"""Claims about `proxy.configuration.rendering` and the files made by it."""

import json
from pathlib import Path

import pytest
import yaml

from proxy.configuration.checks import MASK
from proxy.configuration.model import SETTINGS, Settings, dotted
from proxy.configuration.model import Path as SettingPath
from proxy.configuration.rendering import (
    allowed_text,
    default_yaml,
    effective_yaml,
    schema_json,
    settings_table,
)

CONFIG = Path(__file__).parents[3] / "config"


def test_default_yaml_is_up_to_date() -> None:
    """config/default.yaml is what `python -m proxy.configuration yaml` writes."""
    assert (CONFIG / "default.yaml").read_text() == default_yaml()


def test_schema_is_up_to_date() -> None:
    """config/schema.json is what `python -m proxy.configuration schema` writes."""
    assert (CONFIG / "schema.json").read_text() == schema_json()


def test_default_yaml_holds_every_setting_with_its_default() -> None:
    """The file holds exactly the settings that exist, each with the value it has anyway."""
    content = yaml.safe_load((CONFIG / "default.yaml").read_text())
    assert content == Settings().model_dump(mode="json")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("workers",), "a whole number from 1 to 64"),
        (("defaults", "jitter"), "a number from 0 to 0.5"),
        (("defaults", "compress_above_bytes"), "null or a whole number from 0 to 819200"),
        (("defaults", "consistent_refresh"), "true or false"),
        (("http", "cross_origin"), "null, true or false"),
        (("defaults", "level"), "one of strict, session, eventual"),
        (("log", "format"), "one of json, console"),
        (("store", "namespace"), "text like ^[A-Za-z0-9_.-]{1,32}$"),
        (("store", "username"), "text"),
    ],
)
def test_allowed_values_are_said_in_words(path: SettingPath, text: str) -> None:
    """Bounds, choices and patterns read as the end of a sentence."""
    assert allowed_text(SETTINGS[path]) == text


def test_table_has_one_row_for_each_setting() -> None:
    """README's table names every setting once, and the tables as one."""
    rows = settings_table().splitlines()[2:]
    names = [row.split("`")[1] for row in rows]
    assert names == [dotted(path) for path in SETTINGS if path[0] != "tables"] + ["tables"]
    assert all(row.count(" | ") == 2 for row in rows)


def test_effective_settings_are_yaml_with_sources() -> None:
    """The output loads as YAML, holds resolved rules and says where each value came from."""
    settings = Settings.model_validate(
        {
            "tables": {
                "2024": {"level": "eventual"},
                "Orders": {"key_schema": {"partition": {"name": "a", "type": "S"}}},
            }
        }
    )
    text = effective_yaml(settings, lambda path: "from " + ".".join(path))
    content = yaml.safe_load(text)
    assert content["tables"]["2024"]["stale_if_error_s"] == 60
    assert content["tables"]["Orders"]["key_schema"]["partition"]["name"] == "a"
    assert "key_schema" not in content["tables"]["2024"]
    assert "  lanes: 2  # from store.lanes\n" in text
    assert text.startswith("listen:\n")


def test_effective_settings_mask_secrets() -> None:
    """Neither the password nor the one in the URL is shown."""
    sentinel = {"password": "hidden"}
    store = {"url": "redis://u:hidden@h", "password": "hidden", "sentinel": sentinel}
    text = effective_yaml(Settings.model_validate({"store": store}), lambda _: "")
    assert "hidden" not in text
    assert yaml.safe_load(text)["store"]["password"] == MASK
    assert yaml.safe_load(text)["store"]["sentinel"]["password"] == MASK
    assert yaml.safe_load(text)["store"]["url"] == f"redis://u:{MASK}@h"


def test_schema_refuses_unknown_names() -> None:
    """Editors mark a misspelt setting, because every object is closed."""
    schema = json.loads(schema_json())
    objects = [schema, *schema["$defs"].values()]
    assert all(o["additionalProperties"] is False for o in objects if o["type"] == "object")
