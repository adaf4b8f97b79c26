"""The dashboard is sound and shows what the proxy exposes."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.conftest import DEPLOY, Exposed, Run
from tests.deploy.promql import NAME, unknown_names, unknown_selectors

TEXT = (DEPLOY / "grafana" / "dynaside.json").read_text()
DASHBOARD: dict[str, Any] = json.loads(TEXT)
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
GRAPHS = [panel for panel in PANELS if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in GRAPHS for target in panel["targets"]]
COLUMNS = 24


def test_every_metric_on_the_dashboard_exists(exposed: Exposed) -> None:
    """No panel or variable asks for a metric that the proxy does not expose."""
    assert unknown_names(TEXT, exposed) == set()


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_label_on_the_dashboard_exists(expression: str, exposed: Exposed) -> None:
    """No panel selects by a label or a member that its metric does not have."""
    assert unknown_selectors(expression, exposed) == set()


def test_every_metric_of_the_proxy_is_on_the_dashboard(exposed: Exposed) -> None:
    """What is worth exposing is worth showing: no metric of ours is missing."""
    shown = {base_name(name) for name in NAME.findall(TEXT)}
    ours = {base_name(name) for name in exposed if name.startswith("dynaside_")}
    assert ours - shown == set()


def base_name(name: str) -> str:
    """Return a metric's name without a histogram's suffix."""
    for suffix in ("_bucket", "_count", "_sum"):
        name = name.removesuffix(suffix)
    return name


def test_every_expression_is_valid(promtool: Run, tmp_path: Path) -> None:
    """Promtool parses each panel's expression once Grafana's variables are filled in."""
    filled = [
        expression.replace("$__rate_interval", "5m").replace("$", "") for expression in EXPRESSIONS
    ]
    rules = [{"record": f"panel:{n}", "expr": text} for n, text in enumerate(filled)]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = promtool("check", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_panels_use_the_data_source_variable() -> None:
    """The dashboard works with any Prometheus: every panel, target and variable asks the choice."""
    targets = [target for panel in GRAPHS for target in panel["targets"]]
    variables = [v for v in DASHBOARD["templating"]["list"] if v["type"] == "query"]
    for part in (*GRAPHS, *targets, *variables):
        assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_variables_used_are_declared() -> None:
    """Job, pod and table can be chosen, and no panel uses a variable that is not there."""
    names = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert names == {"datasource", "job", "pod", "table"}
    for expression in EXPRESSIONS:
        used = {word for word in ("$job", "$pod", "$table") if word in expression}
        assert {"$job", "$pod"} <= used


def test_panels_do_not_overlap() -> None:
    """Each cell of the grid belongs to one panel at most, and no panel leaves the grid."""
    cells: set[tuple[int, int]] = set()
    for panel in PANELS:
        at = panel["gridPos"]
        columns = range(at["x"], at["x"] + at["w"])
        assert columns.stop <= COLUMNS
        mine = set(itertools.product(columns, range(at["y"], at["y"] + at["h"])))
        assert not cells & mine, panel["title"]
        cells |= mine


def test_panels_have_their_own_id_title_and_description() -> None:
    """Ids differ, titles differ, and each graph says what it shows."""
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
    assert all(panel["description"].endswith(".") for panel in GRAPHS)
