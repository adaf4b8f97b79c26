"""Renders the kustomizations, and finds in them what tests ask about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from aiohttp import web

from proxy.core.lifecycle import Probes
from proxy.edge.ops_server import ProxyStatus, build_ops_app
from proxy.settings import Settings, load_settings
from tests.deploy.conftest import DEPLOY, Run

KUBERNETES: Final = DEPLOY / "kubernetes"
BASE: Final = KUBERNETES / "base"
SIDECAR_EXAMPLE: Final = KUBERNETES / "examples" / "native-sidecar"
STREAMS_EXAMPLE: Final = KUBERNETES / "examples" / "streams"
FOLDERS: Final = (BASE, SIDECAR_EXAMPLE, STREAMS_EXAMPLE)

SETTINGS_FILE: Final = "dynaside.yaml"
ENVIRON: Final[Mapping[str, str]] = {"AWS_REGION": "eu-central-1"}

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Placed:
    """A container of the proxy: beside what, in which pod, under which Deployment."""

    manifests: list[Manifest]
    deployment: Manifest
    pod: Manifest
    container: Manifest

    @property
    def labels(self) -> dict[str, str]:
        """The pods' labels."""
        found: dict[str, str] = self.deployment["spec"]["template"]["metadata"]["labels"]
        return found

    @property
    def config_maps(self) -> list[str]:
        """The names of the ConfigMaps that the pod mounts."""
        return [each["configMap"]["name"] for each in self.pod["volumes"] if "configMap" in each]

    def settings(self, folder: Path) -> Settings:
        """Load the settings as the container would; `folder` takes the file."""
        return load_settings(config_path=settings_file(self.manifests, folder), environ=ENVIRON)


def render(kubectl: Run, folder: Path) -> list[Manifest]:
    """Return the manifests of one kustomization."""
    done = kubectl("kustomize", folder)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def the(manifests: list[Manifest], kind: str, name: str | None = None) -> Manifest:
    """Return the only manifest of a kind, or of that kind and name."""
    kinds = [manifest for manifest in manifests if manifest["kind"] == kind]
    (found,) = [each for each in kinds if name in {None, each["metadata"]["name"]}]
    return found


def placed(manifests: list[Manifest], deployment: str) -> Placed:
    """Return the proxy's container under a Deployment: the only one of its name."""
    found = the(manifests, "Deployment", deployment)
    pod = found["spec"]["template"]["spec"]
    containers = pod.get("initContainers", []) + pod["containers"]
    (container,) = [each for each in containers if each["name"] == "dynaside"]
    return Placed(manifests, found, pod, container)


def settings_file(manifests: list[Manifest], folder: Path) -> Path:
    """Write the settings in the ConfigMap to a file."""
    path = folder / SETTINGS_FILE
    path.write_text(the(manifests, "ConfigMap")["data"][SETTINGS_FILE])
    return path


def copied(folder: Path) -> Path:
    """Copy all of it, to be changed; return where."""
    copy = folder / "kubernetes"
    for source in KUBERNETES.rglob("*.yaml"):
        target = copy / source.relative_to(KUBERNETES)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(source.read_text())
    return copy


def selects(selector: Manifest, labels: Mapping[str, str]) -> bool:
    """Tell whether a selector of labels finds a pod; knows the operator `In` only."""
    wanted = {name: [text] for name, text in selector.get("matchLabels", {}).items()}
    for each in selector.get("matchExpressions", []):
        assert each["operator"] == "In"
        wanted[each["key"]] = each["values"]
    assert wanted, "a selector of everything"
    return all(labels.get(name) in texts for name, texts in wanted.items())


def port_of(address: str) -> int:
    """Return the port of HOST:PORT."""
    return int(address.rpartition(":")[2])


def ops_paths() -> set[str]:
    """Return the paths that the ops server serves."""

    def no_metrics(accept: str | None) -> tuple[bytes, str]:
        return b"", "text/plain"

    def no_status() -> ProxyStatus:
        raise web.HTTPServiceUnavailable

    app = build_ops_app(Probes(), no_metrics, no_status)
    return {resource.canonical for resource in app.router.resources()}
