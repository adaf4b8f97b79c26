"""Claims about `proxy.settings`."""

from pathlib import Path
from typing import Any

import pytest

from proxy.configuration.model import SETTINGS, dotted
from proxy.core.errors import SettingsInvalid
from proxy.settings import Settings, load_settings, read_settings, setting_names

CONFIG = Path(__file__).parents[2] / "config"


def problems_of(**sources: Any) -> list[str]:
    """Load settings that are wrong and return the problems."""
    with pytest.raises(SettingsInvalid) as refusal:
        load_settings(**({"environ": {}} | sources))
    return refusal.value.problems


@pytest.fixture
def secrets(tmp_path: Path) -> dict[str, str]:
    """Make a directory for secret files; returns the environment that names it."""
    directory = tmp_path / "secrets"
    directory.mkdir()
    return {"DYNASIDE_SECRETS_DIR": str(directory)}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Name a configuration file that does not exist yet."""
    return tmp_path / "config.yaml"


def test_without_any_source_the_defaults_apply() -> None:
    """Nothing needs to be set."""
    assert load_settings(environ={}) == Settings()


@pytest.mark.parametrize("name", ["default.yaml", "example.yaml"])
def test_shipped_file_is_valid(name: str) -> None:
    """The files in config/ load as they are."""
    assert load_settings(config_path=CONFIG / name, environ={}).listen.data == "127.0.0.1:8111"


def test_own_environment_is_read_when_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an `environ` argument the process's own environment counts."""
    monkeypatch.setenv("DYNASIDE__STORE__LANES", "7")
    assert load_settings().store.lanes == 7


def test_flags_win_over_environment_over_file_over_secrets(
    config: Path, secrets: dict[str, str]
) -> None:
    """Each source is overruled by the next one, setting by setting."""
    directory = Path(secrets["DYNASIDE_SECRETS_DIR"])
    for name in ("connect_timeout_s", "timeout_s", "heartbeat_s", "open_s"):
        (directory / f"{'breaker' if name == 'open_s' else 'store'}__{name}").write_text("0.11\n")
    config.write_text("store: {connect_timeout_s: 0.12, timeout_s: 0.12, heartbeat_s: 0.12}")
    environ = secrets | {
        "DYNASIDE__STORE__CONNECT_TIMEOUT_S": "0.13",
        "DYNASIDE__STORE__TIMEOUT_S": "0.13",
    }
    settings = load_settings(
        flags={"store.connect_timeout_s": 0.14}, config_path=config, environ=environ
    )
    assert settings.store.connect_timeout_s == 0.14
    assert settings.store.timeout_s == 0.13
    assert settings.store.heartbeat_s == 0.12
    assert settings.breaker.open_s == 0.11
    assert settings.store.lanes == 2


def test_region_of_awss_variables_is_the_last_resort(config: Path) -> None:
    """AWS_REGION counts only where dynaside's own setting is silent."""
    environ = {"AWS_REGION": "eu-west-1"}
    assert load_settings(environ=environ).upstream.region == "eu-west-1"
    config.write_text("upstream: {region: us-west-2}")
    assert load_settings(config_path=config, environ=environ).upstream.region == "us-west-2"


def test_redis_url_variable_is_not_read() -> None:
    """REDIS_URL belongs to make, not to the proxy."""
    assert load_settings(environ={"REDIS_URL": "redis://h"}).store.url is None


def test_table_named_without_rules_is_configured(config: Path) -> None:
    """An empty section of a table counts, and does not wipe what another source sets."""
    config.write_text("tables: {Orders: {}, Users: {grace_s: 1}}")
    environ = {"DYNASIDE__TABLES": "{Orders: {grace_s: 2}, Users: {}}"}
    settings = load_settings(config_path=config, environ=environ)
    assert {name: table.grace_s for name, table in settings.tables.items()} == {
        "Orders": 2,
        "Users": 1,
    }


@pytest.mark.parametrize(
    ("sources", "problem"),
    [
        (
            {"environ": {"DYNASIDE__STORE__LANES": "17"}},
            (
                "store.lanes: '17' is not a whole number from 1 to 16"
                " (environment DYNASIDE__STORE__LANES)"
            ),
        ),
        (
            {"flags": {"workers": "many"}},
            "workers: 'many' is not a whole number from 1 to 64 (flag --workers)",
        ),
        (
            {"flags": {"listen.data": "8111"}},
            (
                "listen.data: must be HOST:PORT, such as 127.0.0.1:8111 or [::1]:8111;"
                " port 0 chooses a free one (flag --listen)"
            ),
        ),
        (
            {"flags": {"defaults.level": "x" * 99}},
            (
                f"defaults.level: '{'x' * 59} is not one of strict, session, eventual"
                " (flag defaults.level)"
            ),
        ),
        (
            {"flags": {"tables.ab.grace_s": 1}},
            (
                "tables.ab: is not a table name: 3 to 255 of A-Z a-z 0-9 _ . -"
                " (flag tables.ab.grace_s)"
            ),
        ),
        (
            {"environ": {"DYNASIDE__TABLES__abc__KEY_SCHEMA": "{partition: {name: pk}}"}},
            (
                "tables.abc.key_schema.partition.type: is missing"
                " (environment DYNASIDE__TABLES__abc__KEY_SCHEMA)"
            ),
        ),
        (
            {"flags": {"defaults.jitter": True}},
            "defaults.jitter: must be a number, not true or false (flag defaults.jitter)",
        ),
        (
            {"flags": {"fence.lease_wait_s": 4}},
            (
                "fence.lease_wait_s: must not exceed lease_s (3.0); after it nobody is filling"
                " (flag fence.lease_wait_s; fence.lease_s by default)"
            ),
        ),
        (
            {"flags": {"store.url": "redis://:hidden@h/0?socket_timeout=60"}},
            (
                "store.url: must have no query and no fragment: time-outs, user name and password"
                " are settings of their own; within a password, write %3F for ? and %23 for #"
                " (flag --redis-url)"
            ),
        ),
        (
            {"flags": {"http.cross_origin": "maybe"}},
            "http.cross_origin: 'maybe' is not null, true or false (flag http.cross_origin)",
        ),
        (
            {"flags": {"store.urll": "x"}},
            "store.urll: is not a setting; did you mean store.url? (flag store.urll)",
        ),
    ],
)
def test_problem_says_what_is_wrong_what_is_allowed_and_where(
    sources: dict[str, Any], problem: str
) -> None:
    """One line names the setting, what is wrong, what is allowed and the source."""
    assert problems_of(**sources) == [problem]


def test_problem_in_a_file_names_the_file(config: Path) -> None:
    """A value from the file is found by file and dotted name."""
    config.write_text("store: {timeout_s: soon}")
    assert problems_of(config_path=config) == [
        f"store.timeout_s: 'soon' is not a number from 0.001 to 10 ({config}: store.timeout_s)"
    ]


def test_all_problems_are_listed_at_once(config: Path) -> None:
    """Unknown names, wrong values and contradictions of all sources come in one list."""
    config.write_text(
        "stor: {}\nlog: {level: loud}\nfence: {marker_s: 1}\n"
        "tables: {abc: {jitter: 9, level: strict, key_schema: {sort: {name: 1}}}}\n"
    )
    environ = {"DYNASIDE__HTTP__X": "1", "DYNASIDE__WORKERS": "0"}
    flags = {"listen.ops": "h:8111"}
    names = [
        problem.partition(":")[0]
        for problem in problems_of(flags=flags, config_path=config, environ=environ)
    ]
    assert sorted(names) == sorted(
        [
            "stor",
            "http.x",
            "log.level",
            "workers",
            "tables.abc.jitter",
            "tables.abc.key_schema.partition",
            "tables.abc.key_schema.sort.name",
            "tables.abc.key_schema.sort.type",
            "fence.marker_s",
            "listen.data",
            "tables.abc.level",
        ]
    )


def test_contradiction_with_a_wrong_value_is_not_reported() -> None:
    """A value that is wrong by itself is not compared with others."""
    flags = {"fence.marker_s": "x", "upstream.write_timeout_s": 60}
    assert [problem.partition(":")[0] for problem in problems_of(flags=flags)] == ["fence.marker_s"]


def test_wrong_secret_is_not_shown(config: Path) -> None:
    """A problem with a setting of the store does not repeat its value."""
    config.write_text("store: {password: [hidden], url: 'redis://:hidden@h/x', username: [hidden]}")
    problems = problems_of(config_path=config)
    assert len(problems) == 3
    assert "hidden" not in "".join(problems)


def test_source_of_each_value_is_known(config: Path) -> None:
    """What is in effect comes from a source, the defaults section, a level or a default."""
    config.write_text(
        "defaults: {fresh_ttl_s: 9, fill_consistent: true}\n"
        "tables:\n"
        "  abc: {level: eventual, grace_s: 1, key_schema: {partition: {name: a, type: S}}}\n"
        "  xyz: {level: strict}\n"
    )
    loaded = read_settings(
        flags={"store.url": "redis://h"}, config_path=config, environ={"AWS_REGION": "eu-west-1"}
    )
    expected = {
        "store.url": "flag --redis-url",
        "upstream.region": "environment AWS_REGION",
        "log.level": "default",
        "defaults.fresh_ttl_s": f"{config}: defaults.fresh_ttl_s",
        "defaults.grace_s": "default",
        "tables.abc.grace_s": f"{config}: tables.abc.grace_s",
        "tables.abc.fresh_ttl_s": f"{config}: defaults.fresh_ttl_s",
        "tables.abc.fill_consistent": f"{config}: defaults.fill_consistent",
        "tables.abc.stale_if_error_s": "level eventual",
        "tables.abc.jitter": "default",
        "tables.abc.key_schema": f"{config}: tables.abc.key_schema.partition.name",
        "tables.xyz.fill_consistent": "level strict",
    }
    assert {name: loaded.source_of(tuple(name.split("."))) for name in expected} == expected


def test_source_of_a_default_rule_may_be_its_level() -> None:
    """A rule of `defaults` that follows from the level says so."""
    loaded = read_settings(flags={"defaults.level": "eventual"}, environ={})
    assert loaded.source_of(("defaults", "stale_if_error_s")) == "level eventual"
    assert loaded.settings.default_policy.stale_if_error_s == 60


def test_source_of_a_rule_about_queries_may_be_the_defaults_section() -> None:
    """A table inherits each of them by itself."""
    flags = {
        "defaults.queries.enabled": True,
        "tables": {"abc": {"mode": "off", "queries": {"scans": True}}, "queries": {}},
    }
    loaded = read_settings(flags=flags, environ={})
    given = loaded.source_of(("defaults", "queries", "enabled"))
    assert given == "flag defaults.queries.enabled"
    assert loaded.source_of(("tables", "abc", "queries", "enabled")) == given
    assert loaded.source_of(("tables", "abc", "queries", "fresh_ttl_s")) == "default"
    assert loaded.source_of(("tables", "abc", "queries", "scans")).startswith("flag tables")
    assert loaded.source_of(("tables", "queries", "enabled")) == "default"


def test_setting_names_list_every_setting() -> None:
    """Documents can check that they name every setting."""
    assert set(setting_names()) == {
        dotted(path) if path[0] != "tables" else "tables" for path in SETTINGS
    }
