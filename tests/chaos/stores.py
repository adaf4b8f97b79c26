"""The topologies by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.chaos.replicated import Cluster, Sentinel
from tests.chaos.topologies import Single, Topology

TOPOLOGIES: Final[dict[str, Callable[[Path], Topology]]] = {
    "single": Single,
    "sentinel": Sentinel,
    "cluster": Cluster,
}
