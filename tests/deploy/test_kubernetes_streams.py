"""Readers of streams in pods of their own: what only they have, run as the manifest says."""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path
from typing import Any, Final

import pytest

from proxy.embedded.valkey import RunningStore
from proxy.settings import load_settings
from proxy.stream_app import reading
from tests.deploy.conftest import DEPLOY, Run
from tests.deploy.manifests import (
    STREAMS_EXAMPLE,
    Placed,
    copied,
    placed,
    render,
    selects,
    settings_file,
    the,
)
from tests.fakes.fake_upstream import FakeUpstream
from tests.support.proxy_process import RunningProxy, running_proxy
from tests.support.serving import until_told

NAME: Final = "dynaside-streams"
TABLE: Final = "shop-products"

ALONE: Final = """\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: cache
resources: [../../base]
components: [../../components/streams, ../../components/monitoring, ../../components/sidecar]
"""


@pytest.fixture(scope="session")
def readers(kubectl: Run) -> Placed:
    """The reader's container in the example."""
    return placed(render(kubectl, STREAMS_EXAMPLE), NAME)


@pytest.fixture(scope="session")
def watching(readers: Placed) -> Placed:
    """The sidecar beside the application in the same example."""
    return placed(readers.manifests, "shop")


def test_sidecars_only_watch_what_the_readers_read(watching: Placed, tmp_path: Path) -> None:
    """By the settings that both mount; nothing in the sidecar's environment says otherwise."""
    settings = watching.settings(tmp_path)
    assert settings.streamed.keys() == {TABLE}
    assert not settings.streams.reads
    assert reading(settings).streams.reads
    assert [each["name"] for each in watching.container["env"]] == ["AWS_REGION"]


def test_readers_and_sidecars_mount_the_same_settings(readers: Placed, watching: Placed) -> None:
    """What one invalidates is what the other serves: same store, namespace and tables."""
    assert readers.config_maps == watching.config_maps
    assert readers.container["volumeMounts"] == watching.container["volumeMounts"]
    assert "env" not in readers.container


def test_readers_and_sidecars_have_the_same_region(watching: Placed, tmp_path: Path) -> None:
    """It is a part of every cache key, so the settings name it, not each pod."""
    file = settings_file(watching.manifests, tmp_path)
    region = load_settings(config_path=file, environ={}).upstream.region
    (variable,) = watching.container["env"]
    assert region == variable["value"]


def test_a_reader_is_left_while_nodes_are_drained(readers: Placed) -> None:
    """Of two one may go, and they keep away from each other's node where there is another."""
    budget = the(readers.manifests, "PodDisruptionBudget")["spec"]
    assert selects(budget["selector"], readers.labels)
    assert budget["maxUnavailable"] < readers.deployment["spec"]["replicas"] == 2
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    (spread,) = readers.pod["topologySpreadConstraints"]
    assert selects(spread["labelSelector"], readers.labels)
    assert spread["topologyKey"] == "kubernetes.io/hostname"
    assert spread["whenUnsatisfiable"] == "ScheduleAnyway"


def test_readers_act_under_an_account_of_their_own(readers: Placed, watching: Placed) -> None:
    """Its role reads streams only, the application's does not read them."""
    account = the(readers.manifests, "ServiceAccount", readers.pod["serviceAccountName"])
    assert account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"].endswith(f"/{NAME}")
    assert watching.pod["serviceAccountName"] != readers.pod["serviceAccountName"]


def test_selectors_of_the_two_deployments_do_not_overlap(readers: Placed, watching: Placed) -> None:
    """Each finds its own pods."""
    for one, other in ((readers, watching), (watching, readers)):
        selector = one.deployment["spec"]["selector"]
        assert selects(selector, one.labels)
        assert not selects(selector, other.labels)


def test_readers_stand_without_an_application(kubectl: Run, tmp_path: Path) -> None:
    """One Deployment for all applications of a store; the sidecar component leaves it alone."""
    folder = copied(tmp_path) / "examples" / "alone"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(ALONE)
    alone = placed(render(kubectl, folder), NAME)
    assert alone.config_maps == [the(alone.manifests, "ConfigMap")["metadata"]["name"]]
    assert alone.pod["containers"] == [alone.container]
    assert "initContainers" not in alone.pod
    assert selects(the(alone.manifests, "PodMonitor")["spec"]["selector"], alone.labels)


def allowed(table: str) -> dict[str, set[str]]:
    """Return the actions of the example's policy on a table and on its streams."""
    actions: dict[str, set[str]] = {}
    policy: dict[str, Any] = json.loads((STREAMS_EXAMPLE / "iam-policy.json").read_text())
    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow"
        for resource in statement["Resource"]:
            actions.setdefault(resource.rpartition(":")[2], set()).update(statement["Action"])
    assert actions.keys() == {f"table/{table}", f"table/{table}/stream/*"}
    return actions


def test_the_readme_names_the_actions_of_the_policy() -> None:
    """All of them, and the one that is not used."""
    named = set(re.findall(r"`(dynamodb:\w+)`", (DEPLOY / "README.md").read_text()))
    assert named == set().union({"dynamodb:ListStreams"}, *allowed(TABLE).values())


async def reads(proxy: RunningProxy) -> None:
    """Wait until a process holds the table's shard and is not behind."""

    async def told() -> bool:
        shown = (await asyncio.to_thread(proxy.status))["streams"][TABLE]
        return shown["held"] == 1 and not shown["over"]

    await until_told(told)


@pytest.mark.store
async def test_a_reader_does_what_the_manifest_says(
    readers: Placed, valkey: RunningStore, tmp_path: Path
) -> None:
    """Its command reads with its settings, its probes say 200, SIGTERM ends it within its grace.

    And what it asks of DynamoDB is what the example's policy allows, no more and no less.
    """
    config = str(settings_file(readers.manifests, tmp_path))
    args = readers.container["args"]
    command = [config if word.startswith("/") else word for word in args]
    probes = [readers.container[f"{name}Probe"] for name in ("startup", "liveness", "readiness")]
    async with FakeUpstream() as fake:
        fake.tables.add(TABLE, pk="S")
        fake.tables.enable_stream(TABLE)
        with running_proxy(upstream=fake.endpoint, store=valkey.url, command=command) as proxy:
            await reads(proxy)
            for probe in probes:
                answer = await asyncio.to_thread(proxy.ops, probe["httpGet"]["path"])
                assert answer[0] == 200
            stopped_s = time.monotonic()
            assert await asyncio.to_thread(proxy.stop) == 0
            took_s = time.monotonic() - stopped_s
            assert took_s < readers.pod["terminationGracePeriodSeconds"]
        asked = {f"dynamodb:{each.operation}" for each in fake.log}
    actions = allowed(TABLE)
    assert asked == set().union(*actions.values())
    assert actions[f"table/{TABLE}"] == {"dynamodb:DescribeTable"}
