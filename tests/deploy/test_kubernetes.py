"""The manifests render, are valid, and fit what the proxy really does."""

from __future__ import annotations

import re
from pathlib import Path

import kubernetes_validate
import pytest

from proxy.configuration.sources import SECRETS_DIR_DEFAULT
from proxy.settings import load_settings
from proxy.version import VERSION
from tests.deploy.conftest import DEPLOY, Run
from tests.deploy.manifests import (
    ENVIRON,
    FOLDERS,
    SETTINGS_FILE,
    SIDECAR_EXAMPLE,
    STREAMS_EXAMPLE,
    Placed,
    copied,
    ops_paths,
    placed,
    port_of,
    render,
    selects,
    settings_file,
    the,
)

# Native sidecars are on by default from 1.29 on.
KUBERNETES_VERSIONS = ("1.29", kubernetes_validate.latest_version())
CUSTOM_KINDS = {"PodMonitor"}


@pytest.fixture(scope="session")
def sidecar(kubectl: Run) -> Placed:
    """The proxy beside the application."""
    return placed(render(kubectl, SIDECAR_EXAMPLE), "shop")


PLACES = [
    (SIDECAR_EXAMPLE, "shop"),
    (STREAMS_EXAMPLE, "shop"),
    (STREAMS_EXAMPLE, "dynaside-streams"),
]


@pytest.fixture(scope="session", params=PLACES, ids=lambda at: f"{at[0].name}-{at[1]}")
def proxy(request: pytest.FixtureRequest, kubectl: Run) -> Placed:
    """The proxy wherever it runs: beside the application, or reading streams."""
    folder, deployment = request.param
    return placed(render(kubectl, folder), deployment)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_every_manifest_is_valid(folder: Path, version: str, kubectl: Run) -> None:
    """Each manifest satisfies the strict schema of its kind, in the oldest and newest version."""
    for manifest in render(kubectl, folder):
        if manifest["kind"] not in CUSTOM_KINDS:
            kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_config_map_is_valid_settings(folder: Path, kubectl: Run, tmp_path: Path) -> None:
    """The proxy accepts the ConfigMap, and its data port is reachable from this pod only."""
    file = settings_file(render(kubectl, folder), tmp_path)
    settings = load_settings(config_path=file, environ=ENVIRON)
    assert settings.listen.data.startswith("127.0.0.1:")
    assert settings.listen.ops.startswith("0.0.0.0:")


def test_the_image_is_that_of_this_version(proxy: Placed) -> None:
    """The placeholder of its name has the tag that `make image` would be pushed with."""
    assert proxy.container["image"] == f"dynaside:{VERSION}"


def test_the_proxy_is_a_native_sidecar_without_a_pre_stop_hook(sidecar: Placed) -> None:
    """It outlives the application by `restartPolicy`; a hook would drain it too early."""
    assert sidecar.pod["initContainers"] == [sidecar.container]
    assert sidecar.container["restartPolicy"] == "Always"
    assert "lifecycle" not in sidecar.container


def test_the_proxy_reads_the_settings_it_is_given(proxy: Placed) -> None:
    """The path after --config lies in the mounted ConfigMap, which is the generated one."""
    args = proxy.container["args"]
    path = Path(args[args.index("--config") + 1])
    mounts = {mount["mountPath"]: mount["name"] for mount in proxy.container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in proxy.pod["volumes"]}
    config_map = volumes[mounts[str(path.parent)]]["configMap"]["name"]
    assert path.name == SETTINGS_FILE
    assert config_map.startswith("dynaside-config-")
    assert "secret" in volumes[mounts[str(SECRETS_DIR_DEFAULT)]]


def test_the_config_map_of_the_pod_exists(proxy: Placed) -> None:
    """The generated name with its hash is the one the pod mounts."""
    assert proxy.config_maps == [the(proxy.manifests, "ConfigMap")["metadata"]["name"]]


def test_probes_ask_the_ops_port_for_pages_that_exist(proxy: Placed, tmp_path: Path) -> None:
    """Three probes, three different pages of the ops server, on its configured port."""
    (port,) = proxy.container["ports"]
    assert port["containerPort"] == port_of(proxy.settings(tmp_path).listen.ops)
    probes = [proxy.container[f"{name}Probe"] for name in ("startup", "liveness", "readiness")]
    gets = [probe["httpGet"] for probe in probes]
    assert [get["path"] for get in gets] == ["/startupz", "/livez", "/readyz"]
    assert {get["port"] for get in gets} == {port["name"]}
    assert {get["path"] for get in gets} <= ops_paths()


def test_the_start_up_probe_waits_longer_than_a_slow_start(proxy: Placed) -> None:
    """A start takes up to 30 s at a tenth of a CPU; the probe allows for twice that."""
    probe = proxy.container["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 60


def test_every_container_is_confined(proxy: Placed) -> None:
    """Non-root, read-only root, no capability, no new privilege, the runtime's seccomp profile."""
    assert proxy.pod["automountServiceAccountToken"] is False
    for container in (proxy.container, *proxy.pod["containers"]):
        context = container["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] > 0
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}


def test_the_proxy_runs_as_the_user_of_the_image(proxy: Placed) -> None:
    """The manifest and the Dockerfile name the same user and group."""
    lines = (DEPLOY.parent / "Dockerfile").read_text().splitlines()
    (user,) = [line.split()[1] for line in lines if line.startswith("USER ")]
    context = proxy.container["securityContext"]
    assert user == f"{context['runAsUser']}:{context['runAsGroup']}"


def test_the_proxy_asks_for_little_memory_and_has_a_bound(proxy: Placed) -> None:
    """128 MiB are requested, memory is limited, the CPU is not."""
    assert proxy.container["resources"]["requests"]["memory"] == "128Mi"
    assert set(proxy.container["resources"]["limits"]) == {"memory"}


def test_the_grace_period_covers_the_drain(sidecar: Placed, tmp_path: Path) -> None:
    """The application gets at least as long as the proxy's own drain, with room to spare."""
    drain_s = sidecar.settings(tmp_path).http.drain_s
    assert sidecar.pod["terminationGracePeriodSeconds"] > 2 * drain_s


def test_the_application_is_pointed_at_the_proxy(sidecar: Placed, tmp_path: Path) -> None:
    """Its SDK's endpoint is the data port; the proxy's own environment has no such endpoint."""
    port = port_of(sidecar.settings(tmp_path).listen.data)
    (app,) = sidecar.pod["containers"]
    environ = {variable["name"]: variable["value"] for variable in app["env"]}
    assert environ["AWS_ENDPOINT_URL_DYNAMODB"] == f"http://127.0.0.1:{port}"
    assert environ["AWS_ENDPOINT_URL_DYNAMODB_STREAMS"] == f"http://127.0.0.1:{port}"
    names = [variable["name"] for variable in sidecar.container["env"]]
    assert not [name for name in names if name.startswith("AWS_ENDPOINT_URL")]


def test_the_pod_monitor_finds_the_pods_and_their_metrics(proxy: Placed) -> None:
    """It selects the pods' labels and scrapes a page of the ops server on its named port."""
    monitor = the(proxy.manifests, "PodMonitor")
    assert selects(monitor["spec"]["selector"], proxy.labels)
    assert not selects(monitor["spec"]["selector"], {"app": "shop"})
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == proxy.container["ports"][0]["name"]
    assert endpoint["path"] in ops_paths()


def test_paths_named_in_the_readme_exist() -> None:
    """Each folder and file of `kubernetes/` that deploy/README names is there."""
    named = re.findall(r"`(kubernetes/[\w./-]+)`", (DEPLOY / "README.md").read_text())
    assert named
    assert not [path for path in named if not (DEPLOY / path).exists()]


def test_a_deployment_without_the_label_gets_no_sidecar(kubectl: Run, tmp_path: Path) -> None:
    """The component changes labelled Deployments only."""
    deployment = copied(tmp_path) / "examples" / "native-sidecar" / "deployment.yaml"
    text = deployment.read_text().replace(
        "labels: {app: shop, dynaside: sidecar}", "labels: {app: shop}", 1
    )
    deployment.write_text(text)
    spec = the(render(kubectl, deployment.parent), "Deployment")["spec"]["template"]["spec"]
    assert "restartPolicy" not in spec["initContainers"][0]
