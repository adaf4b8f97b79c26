"""The manifests render, are valid, and fit what the proxy really does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from aiohttp import web

from proxy.configuration.sources import SECRETS_DIR_DEFAULT
from proxy.core.lifecycle import Probes
from proxy.edge.ops_server import ProxyStatus, build_ops_app
from proxy.settings import Settings, load_settings
from proxy.version import VERSION
from tests.deploy.conftest import DEPLOY, Run

EXAMPLE = DEPLOY / "kubernetes" / "examples" / "native-sidecar"
BASE = DEPLOY / "kubernetes" / "base"
# Native sidecars are on by default from 1.29 on.
KUBERNETES_VERSIONS = ("1.29", kubernetes_validate.latest_version())
CUSTOM_KINDS = {"PodMonitor"}

Manifest = dict[str, Any]


def render(kubectl: Run, folder: Path) -> list[Manifest]:
    """Return the manifests of one kustomization."""
    done = kubectl("kustomize", folder)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def the(manifests: list[Manifest], kind: str) -> Manifest:
    """Return the only manifest of a kind."""
    (found,) = [manifest for manifest in manifests if manifest["kind"] == kind]
    return found


def settings_of(manifests: list[Manifest], folder: Path) -> Settings:
    """Load the settings in the ConfigMap exactly as the container would."""
    path = folder / "dynaside.yaml"
    path.write_text(the(manifests, "ConfigMap")["data"]["dynaside.yaml"])
    return load_settings(config_path=path, environ={"AWS_REGION": "eu-central-1"})


def port_of(address: str) -> int:
    """Return the port of HOST:PORT."""
    return int(address.rpartition(":")[2])


@pytest.fixture(scope="session")
def example(kubectl: Run) -> list[Manifest]:
    """The rendered example."""
    return render(kubectl, EXAMPLE)


@pytest.fixture(scope="session")
def pod(example: list[Manifest]) -> Manifest:
    """The pod template's spec."""
    spec: Manifest = the(example, "Deployment")["spec"]["template"]["spec"]
    return spec


@pytest.fixture(scope="session")
def sidecar(pod: Manifest) -> Manifest:
    """The proxy's container; the only init container."""
    (container,) = pod["initContainers"]
    found: Manifest = container
    return found


@pytest.mark.parametrize("folder", [BASE, EXAMPLE], ids=lambda folder: folder.name)
@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_every_manifest_is_valid(folder: Path, version: str, kubectl: Run) -> None:
    """Each manifest satisfies the strict schema of its kind, in the oldest and newest version."""
    for manifest in render(kubectl, folder):
        if manifest["kind"] not in CUSTOM_KINDS:
            kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("folder", [BASE, EXAMPLE], ids=lambda folder: folder.name)
def test_the_config_map_is_valid_settings(folder: Path, kubectl: Run, tmp_path: Path) -> None:
    """The proxy accepts the ConfigMap, and its data port is reachable from this pod only."""
    settings = settings_of(render(kubectl, folder), tmp_path)
    assert settings.listen.data.startswith("127.0.0.1:")
    assert settings.listen.ops.startswith("0.0.0.0:")


def test_the_proxy_is_a_native_sidecar_without_a_pre_stop_hook(sidecar: Manifest) -> None:
    """It outlives the application by `restartPolicy`; a hook would drain it too early."""
    assert sidecar["name"] == "dynaside"
    assert sidecar["restartPolicy"] == "Always"
    assert "lifecycle" not in sidecar
    assert sidecar["image"] == f"dynaside:{VERSION}"


def test_the_sidecar_reads_the_settings_it_is_given(pod: Manifest, sidecar: Manifest) -> None:
    """The path after --config lies in the mounted ConfigMap, which is the generated one."""
    path = Path(sidecar["args"][sidecar["args"].index("--config") + 1])
    mounts = {mount["mountPath"]: mount["name"] for mount in sidecar["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    config_map = volumes[mounts[str(path.parent)]]["configMap"]["name"]
    assert path.name == "dynaside.yaml"
    assert config_map.startswith("dynaside-config-")
    assert "secret" in volumes[mounts[str(SECRETS_DIR_DEFAULT)]]


def test_the_config_map_of_the_pod_exists(example: list[Manifest], pod: Manifest) -> None:
    """The generated name with its hash is the one the pod mounts."""
    mounted = [v["configMap"]["name"] for v in pod["volumes"] if "configMap" in v]
    assert mounted == [the(example, "ConfigMap")["metadata"]["name"]]


def test_probes_ask_the_ops_port_for_pages_that_exist(
    example: list[Manifest], sidecar: Manifest, tmp_path: Path
) -> None:
    """Three probes, three different pages of the ops server, on its configured port."""
    (port,) = sidecar["ports"]
    assert port["containerPort"] == port_of(settings_of(example, tmp_path).listen.ops)
    gets = [sidecar[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")]
    assert [get["path"] for get in gets] == ["/startupz", "/livez", "/readyz"]
    assert {get["port"] for get in gets} == {port["name"]}
    assert {get["path"] for get in gets} <= ops_paths()


def ops_paths() -> set[str]:
    """Return the paths that the ops server serves."""

    def no_metrics(accept: str | None) -> tuple[bytes, str]:
        return b"", "text/plain"

    def no_status() -> ProxyStatus:
        raise web.HTTPServiceUnavailable

    app = build_ops_app(Probes(), no_metrics, no_status)
    return {resource.canonical for resource in app.router.resources()}


def test_the_start_up_probe_waits_longer_than_a_slow_start(sidecar: Manifest) -> None:
    """A start takes up to 30 s at a tenth of a CPU; the probe allows for twice that."""
    probe = sidecar["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 60


def test_both_containers_are_confined(pod: Manifest, sidecar: Manifest) -> None:
    """Non-root, read-only root, no capability, no new privilege, the runtime's seccomp profile."""
    for container in (sidecar, *pod["containers"]):
        context = container["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] > 0
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}


def test_the_sidecar_runs_as_the_user_of_the_image(sidecar: Manifest) -> None:
    """The manifest and the Dockerfile name the same user and group."""
    lines = (DEPLOY.parent / "Dockerfile").read_text().splitlines()
    (user,) = [line.split()[1] for line in lines if line.startswith("USER ")]
    context = sidecar["securityContext"]
    assert user == f"{context['runAsUser']}:{context['runAsGroup']}"


def test_the_sidecar_asks_for_little_memory_and_has_a_bound(sidecar: Manifest) -> None:
    """128 MiB are requested, memory is limited, the CPU is not."""
    assert sidecar["resources"]["requests"]["memory"] == "128Mi"
    assert set(sidecar["resources"]["limits"]) == {"memory"}


def test_the_grace_period_covers_the_drain(
    example: list[Manifest], pod: Manifest, tmp_path: Path
) -> None:
    """The application gets at least as long as the proxy's own drain, with room to spare."""
    drain_s = settings_of(example, tmp_path).http.drain_s
    assert pod["terminationGracePeriodSeconds"] > 2 * drain_s


def test_the_application_is_pointed_at_the_proxy(
    example: list[Manifest], pod: Manifest, tmp_path: Path
) -> None:
    """Its SDK's endpoint is the data port; the proxy's own environment has no such endpoint."""
    port = port_of(settings_of(example, tmp_path).listen.data)
    (app,) = pod["containers"]
    environ = {variable["name"]: variable["value"] for variable in app["env"]}
    assert environ["AWS_ENDPOINT_URL_DYNAMODB"] == f"http://127.0.0.1:{port}"
    assert environ["AWS_ENDPOINT_URL_DYNAMODB_STREAMS"] == f"http://127.0.0.1:{port}"
    (proxy,) = pod["initContainers"]
    assert not [v for v in proxy["env"] if v["name"].startswith("AWS_ENDPOINT_URL")]


def test_the_pod_monitor_finds_the_pods_and_their_metrics(
    example: list[Manifest], sidecar: Manifest
) -> None:
    """It selects the pods' labels and scrapes a page of the ops server on its named port."""
    monitor = the(example, "PodMonitor")
    labels = the(example, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == sidecar["ports"][0]["name"]
    assert endpoint["path"] in ops_paths()


def test_a_deployment_without_the_label_gets_no_sidecar(kubectl: Run, tmp_path: Path) -> None:
    """The component changes labelled Deployments only."""
    copy = tmp_path / "kubernetes"
    for source in (DEPLOY / "kubernetes").rglob("*.yaml"):
        target = copy / source.relative_to(DEPLOY / "kubernetes")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(source.read_text())
    deployment = copy / "examples" / "native-sidecar" / "deployment.yaml"
    text = deployment.read_text().replace(
        "labels: {app: shop, dynaside: sidecar}", "labels: {app: shop}", 1
    )
    deployment.write_text(text)
    spec = the(render(kubectl, deployment.parent), "Deployment")["spec"]["template"]["spec"]
    assert "restartPolicy" not in spec["initContainers"][0]
