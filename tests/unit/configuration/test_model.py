"""Claims about `proxy.configuration.model`."""

import pytest

from proxy.configuration.model import SECTIONS, SETTINGS, Path, Settings, dotted, general
from proxy.core.policy import AuditPolicy, FencePolicy, TablePolicy
from proxy.core.values import Mode, TableName


def test_fence_policy_takes_the_write_timeout_from_upstream() -> None:
    """The fence's bounds come from `fence`, its write time-out from `upstream`."""
    assert Settings().fence_policy() == FencePolicy()
    settings = Settings.model_validate(
        {
            "fence": {"lease_s": 1, "lease_wait_s": 2, "marker_s": 3, "tombstone_s": 4},
            "upstream": {"write_timeout_s": 5},
        }
    )
    assert settings.fence_policy() == FencePolicy(
        lease_s=1, lease_wait_s=2, marker_s=3, tombstone_s=4, write_timeout_s=5
    )


@pytest.mark.parametrize(
    ("endpoint", "asked", "allowed"),
    [
        (None, None, False),
        ("https://dynamodb.eu-west-1.amazonaws.com", None, False),
        ("http://localhost:8000", None, True),
        ("http://127.0.0.2:8000", None, True),
        ("http://[::1]:8000", None, True),
        ("http://127.0.0.1.example:8000", None, False),
        ("http://localhost:8000", False, False),
        (None, True, True),
    ],
)
def test_web_pages_are_served_only_before_a_local_engine_unless_told(
    endpoint: str | None, *, asked: bool | None, allowed: bool
) -> None:
    """With real credentials nothing of a browser is let in, except where the operator says so."""
    given = {"upstream": {"endpoint": endpoint}, "http": {"cross_origin": asked}}
    assert Settings.model_validate(given).cross_origin_allowed is allowed


def test_policy_of_a_table_is_computed_once() -> None:
    """Tables with rules get their policy, others the default one, always the same object."""
    settings = Settings.model_validate({"tables": {"Orders": {"fresh_ttl_s": 7}}})
    assert settings.policy_of("Orders") == TablePolicy(fresh_ttl_s=7)
    assert settings.policy_of("Other") == TablePolicy()
    assert settings.policy_of("Orders") is settings.policy_of("Orders")
    assert settings.policy_of("Other") is settings.policy_of("orders")


def test_key_schemas_are_those_that_were_given() -> None:
    """Only tables whose key schema the operator gave are listed."""
    partition = {"name": "pk", "type": "S"}
    settings = Settings.model_validate(
        {"tables": {"Orders": {"key_schema": {"partition": partition}}, "Other": {}}}
    )
    assert list(settings.key_schemas) == ["Orders"]
    assert settings.key_schemas["Orders"].partition.name == "pk"  # type: ignore[index]
    assert settings.key_schemas["Orders"].sort is None  # type: ignore[index]


def test_every_name_is_either_a_setting_or_a_section() -> None:
    """No path is both, and every setting stands in a section or at the top."""
    assert not SETTINGS.keys() & SECTIONS.keys()
    assert all(len(path) == 1 or path[:-1] in SECTIONS for path in SETTINGS)
    assert ("tables", "*", "key_schema", "partition", "type") in SETTINGS


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (("tables", "Orders", "grace_s"), ("tables", "*", "grace_s")),
        (("tables",), ("tables",)),
        (("store", "url"), ("store", "url")),
        ((), ()),
    ],
)
def test_table_names_are_generalised(path: Path, expected: Path) -> None:
    """A table's name is replaced, other paths stay."""
    assert general(path) == expected


def test_dotted_name_joins_a_path() -> None:
    """People read paths with dots."""
    assert dotted(("store", "url")) == "store.url"


def test_audit_policy_is_what_was_given() -> None:
    """Its defaults are the policy's own."""
    assert Settings().audit.policy() == AuditPolicy()
    given = {"share": 0.5, "reads_per_s_max": 1, "read_units_per_s_max": 2, "concurrency_max": 3}
    expected = AuditPolicy(0.5, 1, 2, 3)
    assert Settings.model_validate({"audit": given}).audit.policy() == expected


def test_modes_replace_those_of_single_tables_and_nothing_else() -> None:
    """Other rules, other tables, secrets and what nobody set stay as they are."""
    given = {
        "store": {"url": "redis://h", "password": "hidden"},
        "defaults": {"fresh_ttl_s": 9},
        "tables": {"orders": {"level": "strict"}, "users": {"mode": "off"}},
    }
    settings = Settings.model_validate(given)
    modes = {TableName("orders"): (Mode.SHADOW, 10.0), TableName("others"): (Mode.OFF, 100.0)}
    switched = settings.with_modes(modes)
    assert settings.with_modes({}) is settings
    assert settings.policy_of("orders").mode is Mode.ON
    policies = {table: switched.policy_of(table) for table in ("orders", "users", "others")}
    assert [each.mode for each in policies.values()] == [Mode.SHADOW, Mode.OFF, Mode.OFF]
    assert policies["orders"].mode_percent == 10
    assert policies["orders"].level is settings.policy_of("orders").level
    assert {each.fresh_ttl_s for each in policies.values()} == {9}
    assert switched.store == settings.store
    assert switched.store.password is not None
    assert switched.store.password.get_secret_value() == "hidden"


def test_tables_whose_streams_are_read_are_listed() -> None:
    """With the ARN that was given, if any."""
    arn = "arn:aws:dynamodb:us-east-1:1:table/named/stream/2026"
    tables = {
        "orders": {"streams": "on"},
        "named": {"streams": True, "stream_arn": arn},
        "other": {},
    }
    settings = Settings.model_validate({"tables": tables})
    assert settings.streamed == {"orders": None, "named": arn}
