"""The alert rules are valid, fire when they should, and watch what the proxy exposes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.conftest import DEPLOY, Exposed, Run
from tests.deploy.promql import unknown_names, unknown_selectors

RULES = DEPLOY / "prometheus" / "dynaside.rules.yaml"
RULE_TESTS = DEPLOY / "prometheus" / "dynaside.rules.test.yaml"

Rule = dict[str, Any]


def rules(kind: str) -> list[Rule]:
    """Return every rule of a kind, `alert` or `record`."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


def test_the_rules_are_valid(promtool: Run) -> None:
    """Promtool accepts the rules, their expressions and their templates."""
    done = promtool("check", "rules", RULES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_fire_and_stay_silent_as_their_tests_say(promtool: Run) -> None:
    """Promtool runs the rules against made-up series."""
    done = promtool("test", "rules", RULE_TESTS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_alert_that_never_fires_fails_its_test(promtool: Run, tmp_path: Path) -> None:
    """Each alert has a test that notices when its expression never holds."""
    document = yaml.safe_load(RULES.read_text())
    for group in document["groups"]:
        for rule in group["rules"]:
            rule["expr"] = "vector(0) > 0" if "alert" in rule else rule["expr"]
    (tmp_path / RULES.name).write_text(yaml.safe_dump(document))
    (tmp_path / RULE_TESTS.name).write_text(RULE_TESTS.read_text())
    done = promtool("test", "rules", tmp_path / RULE_TESTS.name)
    missed = done.stdout + done.stderr
    assert {alert["alert"] for alert in rules("alert") if alert["alert"] not in missed} == set()


@pytest.mark.parametrize("alert", rules("alert"), ids=lambda alert: alert["alert"])
def test_every_alert_tells_what_who_and_where_to_look(alert: Rule) -> None:
    """Each alert has a severity, a summary, a description and a first step."""
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert set(alert["annotations"]) == {"summary", "description", "runbook"}
    assert all(len(text) > 10 for text in alert["annotations"].values())


def test_every_metric_in_rules_and_their_tests_exists(exposed: Exposed) -> None:
    """No rule, annotation or test names a metric that the proxy does not expose."""
    for line in (RULES.read_text() + RULE_TESTS.read_text()).splitlines():
        prose = line.strip().startswith(("runbook:", "description:", "summary:"))
        unknown = unknown_names(line, exposed)
        # To people a histogram goes by its own name, which is no sample's.
        assert {name for name in unknown if not (prose and f"{name}_bucket" in exposed)} == set()


def test_every_label_in_the_rules_exists(exposed: Exposed) -> None:
    """No rule selects by a label or a member that its metric does not have."""
    for rule in (*rules("alert"), *rules("record")):
        assert unknown_selectors(rule["expr"], exposed) == set()


def test_every_recorded_series_in_use_is_recorded() -> None:
    """Rules and their tests read recorded series under the names they are recorded as."""
    recorded = {rule["record"] for rule in rules("record")}
    used = set(re.findall(r"\w+:dynaside_\w+:\w+", RULES.read_text() + RULE_TESTS.read_text()))
    assert used == recorded
