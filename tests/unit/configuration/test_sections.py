"""Claims about `proxy.configuration.sections`."""

import math
from typing import Any

import pytest
from pydantic import ValidationError

from proxy.configuration.model import SETTINGS, Path, dotted
from proxy.configuration.sections import Listen
from proxy.configuration.store_sections import Breaker, Store
from proxy.configuration.tables import TableRules


def test_listen_addresses_are_split() -> None:
    """Both listeners are available as host and port."""
    listen = Listen(data="[::1]:1", ops="localhost:2")
    assert listen.data_address == ("::1", 1)
    assert listen.ops_address == ("localhost", 2)


@pytest.mark.parametrize("given", [True, math.inf, math.nan, "fast", None])
def test_number_must_be_a_finite_number(given: Any) -> None:
    """Truth values, infinities and words are no numbers."""
    with pytest.raises(ValidationError):
        Breaker(open_s=given)
    if given is not None:  # which says that there is no such bound
        with pytest.raises(ValidationError):
            TableRules(compress_above_bytes=given)


def test_truth_value_stays_allowed_where_it_is_meant() -> None:
    """Settings that are true or false take both."""
    assert TableRules(consistent_refresh=False).consistent_refresh is False


def test_sections_are_frozen() -> None:
    """Settings cannot change after start."""
    with pytest.raises(ValidationError, match="frozen"):
        Store().lanes = 3


def test_secrets_do_not_show_in_repr() -> None:
    """A section that reaches a log line shows neither URL nor password."""
    shown = repr(Store.model_validate({"url": "redis://:hidden@h", "password": "hidden"}))
    assert "hidden" not in shown


@pytest.mark.parametrize("path", SETTINGS, ids=dotted)
def test_every_setting_is_described(path: Path) -> None:
    """Every setting carries the description that the documents are made from."""
    assert (SETTINGS[path].description or "").endswith(".")


@pytest.mark.parametrize(
    "path",
    [path for path, field in SETTINGS.items() if field.annotation in {int, float, int | None}],
    ids=dotted,
)
def test_every_number_has_both_bounds(path: Path) -> None:
    """No number is unlimited, and every default lies within its bounds."""
    field = SETTINGS[path]
    low = next(m.ge for m in field.metadata if hasattr(m, "ge"))
    high = next(m.le for m in field.metadata if hasattr(m, "le"))
    assert field.default is None or low <= field.default <= high
