"""Draws the pictures of docs/benchmarks.md: `python -m tests.bench.speed.plots RESULT FOLDER`.

Runs in an environment of its own, which has matplotlib and nothing of the proxy.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any, Final

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

from tests.bench.speed.plan import (
    CONNECTIONS,
    FLOOR,
    HITS,
    KEYS,
    PATHS,
    SIZES,
    Path,
)
from tests.bench.speed.targets import Figures

OURS: Final = "#c2571a"
PEER: Final = "#6b7a8f"
DPI: Final = 90


def draw(result: Mapping[str, Any], folder: FilePath) -> None:
    """Write every picture of a result into a folder."""
    figures = Figures(result)
    paths = [path for path in PATHS if path.name not in result["missing"]]
    pictures = {
        "cpu": draw_cpu(figures, paths),
        "latency": draw_latency(figures, paths),
        "sizes": draw_sizes(figures, [path for path in paths if _has_sizes(result, path)]),
        "growth": draw_growth(figures, [path for path in paths if path in {FLOOR, *HITS}]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        # Neither date nor version inside: the same result gives the same file.
        picture.savefig(folder / f"{name}.png", dpi=DPI, metadata={"Software": None})
        plt.close(picture)


def draw_cpu(figures: Figures, paths: Sequence[Path]) -> Any:
    """Draw CPU per request, one bar per path."""
    picture, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
    floor = figures.cpu(FLOOR)
    cpus = [figures.cpu(path) for path in paths]
    bars = axes.barh(_titles(paths), cpus, color=[_color(path) for path in paths])
    axes.bar_label(bars, [f"{cpu:.1f} µs, {cpu / floor:.1f} ×" for cpu in cpus], padding=4)
    axes.set(xscale="log", xlabel="CPU µs per request (× nginx return 200)")
    axes.set_xlim(right=max(cpus) * 6)
    axes.invert_yaxis()
    return picture


def draw_latency(figures: Figures, paths: Sequence[Path]) -> Any:
    """Draw p50, p99 and p99.9 of every path."""
    picture, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
    marks = {"p50": ("p50_us", "o"), "p99": ("p99_us", "s"), "p99.9": ("p999_us", "^")}
    for name, (figure, marker) in marks.items():
        found = [figures.cell(path, figure) for path in paths]
        axes.plot(found, _titles(paths), marker, label=name)
    axes.set(xscale="log", xlabel="µs, 32 connections at full speed")
    axes.invert_yaxis()
    axes.legend()
    return picture


def draw_sizes(figures: Figures, paths: Sequence[Path]) -> Any:
    """Draw CPU per request by the size of an answer."""
    picture, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
    for path in paths:
        found = [figures.cpu(path, size_bytes=size) for size in SIZES]
        axes.plot(SIZES, found, marker="o", label=_plain(path.title), linestyle=_line(path))
    axes.set(xscale="log", yscale="log", xlabel="bytes of an answer", ylabel="CPU µs per request")
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return picture


def draw_growth(figures: Figures, paths: Sequence[Path]) -> Any:
    """Draw CPU per hit by distinct keys, and by connections."""
    picture, (by_keys, by_connections) = plt.subplots(
        1, 2, figsize=(9, 3.8), sharey=True, layout="constrained"
    )
    for number, path in enumerate(paths):
        look = {"label": _plain(path.title), "linestyle": _line(path), "color": f"C{number}"}
        if path in HITS:
            found = [figures.cpu(path, keys=keys) for keys in KEYS]
            by_keys.plot(KEYS, found, marker="o", **look)
        found = [figures.cpu(path, connections=count) for count in CONNECTIONS]
        by_connections.plot(CONNECTIONS, found, marker="o", **look)
    by_keys.set(xscale="log", xlabel="distinct keys", ylabel="CPU µs per request", ylim=(0, None))
    by_connections.set(xscale="log", xlabel="connections")
    by_connections.legend(fontsize="small")
    return picture


def _has_sizes(result: Mapping[str, Any], path: Path) -> bool:
    rows = result["cells"]
    return any(row["path"] == path.name and row["size_bytes"] == SIZES[-1] for row in rows)


def _titles(paths: Sequence[Path]) -> list[str]:
    return [_plain(path.title) for path in paths]


def _plain(title: str) -> str:
    return title.replace("`", "")


def _color(path: Path) -> str:
    return OURS if _is_ours(path) else PEER


def _line(path: Path) -> str:
    return "-" if _is_ours(path) else "--"


def _is_ours(path: Path) -> bool:
    return path.server.startswith("dynaside")


if __name__ == "__main__":
    draw(json.loads(FilePath(sys.argv[1]).read_text()), FilePath(sys.argv[2]))
