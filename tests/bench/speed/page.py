"""Renders docs/benchmarks.md from the result and the profiles: no number in it is typed by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from tests.bench.speed.plan import (
    CONNECTIONS,
    FLOOR,
    FULL,
    HITS,
    KEYS,
    PACED_CONNECTIONS,
    PATHS,
    SIZES,
    SMALL,
    USUAL_CONNECTIONS,
    USUAL_KEYS,
    Path,
)
from tests.bench.speed.profiles import Frame, Profiles, by_library, own_time
from tests.bench.speed.targets import Figures, Judged, Target, judge

TOP: Final = 5
FOLDER: Final = "benchmarks"
PLOTS: Final = {
    "cpu": "CPU per request of every path",
    "latency": "Latency of every path",
    "sizes": "CPU per request by size",
    "growth": "CPU per hit by keys and by connections",
}
"""Pictures by the name of their file."""

HEAD: Final = """\
# Benchmarks

<!-- written by `make bench` and `make bench-profile` -->

How much the proxy costs, beside its peers. Every number here comes from one run of `make bench`,
in which all took turns; the profiles from `make bench-profile`.

## How it is measured

- Servers have one core, one at a time; wrk, the store (Valkey, unix socket) and DynamoDB's stand-in
  (an nginx that answers every GetItem with one item) have another. Every cell has a turn of
  {seconds:g} s in each of {rounds} rounds; what is told is the median.
- Requests are an SDK's: its fields, a signature and an invocation id that differ from one to the
  next, one of {keys:,} keys at random.
- CPU per request is the scheduler's count for all threads of the server's process, kernel
  included, by the answers that wrk got. It moves least with the machine. Ratios within a run are
  what counts.
- What the store and the stand-in are asked is counted in every turn: a hit that asked DynamoDB, or
  a near hit that asked the store, is told under "Odd".
- Settings are the defaults, but that entries do not expire during the run, misses are kept for one
  second, and one table is off.
- Half of the peak is paced by pauses of whole milliseconds, at random, on {paced} connections, so
  that requests come a little bunched.
- "Latency added" is to nginx `return 200` in the proxy's place, asked by a lone client.
- A spread of ± 0.2 means that all figures lie within 20 % of the middle between the outermost two.
- The hit ratio of a near cache is no part of this run.
"""


TRIED: Final = """## What was tried

A request that needs nothing but the kernel and the event loop costs about what nginx's constant
answer does; all beyond that is Python, line by line. So what is missed is missed by the number of
steps that a path takes, and each step there is decides something.

Kept: hits on copies that stand, found by the request's bytes; lookups judged, and answered, where
the store's reply is read; one connection per turn of the loop; heads and replies by shapes that are
known; tuples where there is one value per request; tallies in place of events; an item parsed and
sized once; one round trip less per put; no collector over what stays.

Left, since it did not pay: writes put off to the end of a turn (0 to 3 µs), Python's collector off
altogether (nothing beyond what is kept), random bytes ahead of time (0.3 µs).

Left, since it would be wrong: MGET in place of two GETs (it hides that a record is a hash), an
answer before its fill was accepted (nobody could say whether it is stored), a fetch beside the
request for the lease (the protocol forbids it), trust in a table's generation without its record
(`strict` stands on it).

Not tried: compiling the core. The proxy is to install from a wheel of plain Python on any machine.
"""
"""Stays true whatever a run shows; what each is about is in ARCHITECTURE.md, sections 6 to 8."""


def page(result: Mapping[str, Any] | None, profiles: Profiles | None) -> str:
    """Return the whole page.

    Args:
        result: the content of the result file, None where none is kept.
        profiles: where the time goes, None where nothing is kept.
    """
    head = HEAD.format(
        rounds=FULL.rounds, seconds=FULL.seconds, keys=USUAL_KEYS, paced=PACED_CONNECTIONS
    )
    blocks = [head, _about(result), _targets(judge(result))]
    if result is not None:
        blocks += _figures(result)
    blocks += [_profiles(profiles), TRIED]
    return "\n".join(block.rstrip("\n") + "\n" for block in blocks)


def summary(result: Mapping[str, Any]) -> str:
    """Return what a terminal shows after a run."""
    figures = Figures(result)
    return "\n".join(
        [_targets(judge(result)), _paths(result, figures), _missing(result), _odd(result)]
    )


def _figures(result: Mapping[str, Any]) -> Iterator[str]:
    figures = Figures(result)
    yield _paths(result, figures)
    yield _sizes(result, figures)
    yield _connections(result, figures)
    yield _keys(result, figures)
    yield _others(result)
    yield _missing(result)
    yield _odd(result)
    yield _pictures()


def _about(result: Mapping[str, Any] | None) -> str:
    if result is None:
        return (
            "No result is kept at present: numbers count only from a machine with nothing else to"
            " do. `make bench` makes one, in about 20 minutes, and this page with it.\n"
        )
    machine, load = result["machine"], result["load_average"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return (
        f"Commit `{result['commit']}`, {result['began']}, {result['took_s']} s."
        f" {machine['cpu']}, {machine['cpus']} cores, {machine['architecture']},"
        f" Linux {machine['kernel']}; load average before {load['before']:.2f},"
        f" after {load['after']:.2f}. {versions}.\n"
    )


def _targets(judged: Sequence[Judged]) -> str:
    rows = [
        [
            each.target.what,
            _limit(each.target),
            "–" if each.figure is None else _number(each.figure),
            _judgement(each),
        ]
        for each in judged
    ]
    return "## Targets\n\n" + _table(["what", "target", "measured", ""], rows)


def _limit(target: Target) -> str:
    sign = "≥" if target.at_least else "≤"
    return f"{sign} {_number(target.limit)} {target.unit}".rstrip()


def _judgement(judged: Judged) -> str:
    if judged.met is None:
        return f"not measured: {judged.why}"
    return "met" if judged.met else f"**missed**, by a factor of {judged.off_by:.2f}"


def _paths(result: Mapping[str, Any], figures: Figures) -> str:
    floor = figures.cpu(FLOOR)
    rows = []
    for path in _present(result):
        row = {name: figures.cell(path, name) for name in ("requests_per_s", *_LATENCIES)}
        cpu, rounds = figures.cpu(path), _rounds_of(result, path)
        rows.append(
            [
                path.title,
                f"{cpu:.1f}",
                f"{min(rounds):.1f}–{max(rounds):.1f}",
                f"{cpu / floor:.2f}",
                f"{row['requests_per_s']:,.0f}",
                *(f"{row[name]:,.0f}" for name in _LATENCIES),
            ]
        )
    names = ["path", "CPU µs", "of rounds", "× floor", "requests/s", "p50 µs", "p99", "p99.9"]
    return f"## Paths: {SMALL} B, {USUAL_CONNECTIONS} connections\n\n" + _table(names, rows)


_LATENCIES: Final = ("p50_us", "p99_us", "p999_us")


def _sizes(result: Mapping[str, Any], figures: Figures) -> str:
    rows = []
    for path in _present(result):
        if not _has(result, path, size_bytes=SIZES[-1]):
            continue
        cpus = [figures.cpu(path, size_bytes=size) for size in SIZES]
        floors = [figures.cpu(FLOOR, size_bytes=size) for size in SIZES]
        ratios = zip(cpus, floors, strict=True)
        rows.append([path.title, *(f"{cpu:.1f} ({cpu / least:.2f} ×)" for cpu, least in ratios)])
    return "## Sizes: CPU µs per request (× floor)\n\n" + _table(
        ["path", *(f"{size:,} B" for size in SIZES)], rows
    )


def _connections(result: Mapping[str, Any], figures: Figures) -> str:
    rows = []
    for path in _present(result):
        if not _has(result, path, connections=CONNECTIONS[-1]):
            continue
        row = [path.title]
        for count in CONNECTIONS:
            per_s = figures.cell(path, "requests_per_s", connections=count)
            p50 = figures.cell(path, "p50_us", connections=count)
            cpu = figures.cpu(path, connections=count)
            row.append(f"{cpu:.1f} · {per_s:,.0f} · {p50:,.0f}")
        rows.append(row)
    return "## Connections: CPU µs · requests/s · p50 µs\n\n" + _table(
        ["path", *(f"{count:,}" for count in CONNECTIONS)], rows
    )


def _keys(result: Mapping[str, Any], figures: Figures) -> str:
    rows = []
    for path in _present(result):
        if path in HITS:
            half = {"connections": PACED_CONNECTIONS, "half_load": True}
            share = figures.cell(path, "requests_per_s", **half) / figures.cell(
                path, "requests_per_s"
            )
            tail = [f"{figures.cell(path, name, **half):,.0f}" for name in _LATENCIES]
            cpus = [f"{figures.cpu(path, keys=keys):.1f}" for keys in KEYS]
            rows.append([path.title, *cpus, f"{share:.0%}", " · ".join(tail)])
    names = ["path", *(f"{keys:,} keys" for keys in KEYS), "paced at", "p50 · p99 · p99.9 µs"]
    return "## Hits: CPU µs by distinct keys, and latency at half of the peak\n\n" + _table(
        names, rows
    )


def _others(result: Mapping[str, Any]) -> str:
    calls, memory, stampede = result["aiobotocore"], result["memory"], result["stampede"]
    lines = []
    lines.append(
        f"- aiobotocore `get_item` straight to the stand-in, {calls['connections']} at once:"
        f" {calls['cpu_us']:.0f} µs of the caller's CPU per call, {calls['per_s']:,.0f} calls/s."
    )
    lines.extend(
        f"- redis-benchmark GET of {SMALL} B, connections: {each['connections']}; p50"
        f" {each['p50_us']:.0f} µs, p99 {each['p99_us']:.0f} µs,"
        f" {each['requests_per_s']:,.0f} requests/s."
        for each in result["redis-benchmark"]
    )
    lines.append(
        f"- A proxy at start: {memory['start_bytes'] / 2**20:.0f} MiB,"
        f" {memory['start_cpu_s']:.2f} s of CPU. An entry takes"
        f" {memory['entry_overhead_bytes']:.0f} B of the store over its body and key."
    )
    if "near_grown_bytes" in memory:
        lines.append(
            f"- A near cache of {memory['near_budget_bytes'] / 2**20:.0f} MiB, full: the process"
            f" has grown by {memory['near_grown_bytes'] / 2**20:.0f} MiB."
        )
    if "plans_grown_bytes" in memory:
        lines.append(
            f"- A memo of plans of {memory['plans_budget_bytes'] / 2**20:.0f} MiB, full: the"
            f" process has grown by {memory['plans_grown_bytes'] / 2**20:.0f} MiB."
        )
    lines.append(
        f"- {stampede['readers']:,} misses at once on one item over {stampede['processes']}"
        f" processes: DynamoDB saw {stampede['upstream_reads']}, all had it after"
        f" {stampede['all_answered_s']:.2f} s."
    )
    return "## Callers, store, weight, stampede\n\n" + "\n".join(lines) + "\n"


def _missing(result: Mapping[str, Any]) -> str:
    titles = {path.name: path.title for path in PATHS}
    lines = [f"- {titles.get(name, name)}: {why}" for name, why in result["missing"].items()]
    return "## Not measured\n\n" + "\n".join(lines or ["Nothing: every peer was there."]) + "\n"


def _odd(result: Mapping[str, Any]) -> str:
    lines = [f"- {each}" for each in result["disagreements"]]
    return "## Odd\n\n" + "\n".join(lines or ["Nothing: every path did what it is named after."])


def _pictures() -> str:
    return "\n\n".join(f"![{text}]({FOLDER}/{name}.png)" for name, text in PLOTS.items()) + "\n"


def _profiles(profiles: Profiles | None) -> str:
    if profiles is None:
        return "## Where the time goes\n\nNo profile is kept at present: `make bench-profile`.\n"
    titles = {path.name: path.title for path in PATHS}
    about = profiles.about
    rows = []
    for name, stacks in profiles.stacks.items():
        frames = own_time(stacks)[:TOP]
        link = f"[{titles[name]}]({FOLDER}/profiles/{name}.folded)"
        rows.append([link, *map(_shares, (frames[:1], frames[1:], by_library(stacks)[:TOP]))])
    text = (
        f"Sampled by py-spy at commit `{about['commit']}`, {about['samples_per_s']} times a second"
        f" for {about['seconds']:g} s per path, load average {about['load_average']:.2f}."
        " A share is a function's own time, what it calls in C included. The files open in"
        " speedscope.\n\n"
    )
    return (
        "## Where the time goes\n\n"
        + text
        + _table(["path", "next bottleneck", "then", "by package"], rows, column="---")
    )


def _shares(frames: Sequence[Frame]) -> str:
    return ", ".join(f"`{each.name}` {each.share:.0%}" for each in frames)


def _present(result: Mapping[str, Any]) -> list[Path]:
    return [path for path in PATHS if path.name not in result["missing"]]


def _has(result: Mapping[str, Any], path: Path, **place: int) -> bool:
    return any(
        row["path"] == path.name and all(row[name] == value for name, value in place.items())
        for row in result["cells"]
    )


def _rounds_of(result: Mapping[str, Any], path: Path) -> list[float]:
    """Return the CPU of each round of a path's usual cell, which comes first."""
    first = next(row for row in result["cells"] if row["path"] == path.name)
    rounds: list[float] = first["cpu_us_of_rounds"]
    return rounds


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _table(names: Sequence[str], rows: Sequence[Sequence[str]], *, column: str = "---:") -> str:
    lines = [names, ["---", *(column for _ in names[1:])], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
