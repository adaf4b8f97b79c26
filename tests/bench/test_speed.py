"""What the benchmark asks, how it judges a result, and when it takes one for whole."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import Any

import pytest

from proxy.core.operations import decode_get
from proxy.settings import setting_names
from tests.bench.speed.__main__ import PAGE, kept_result, rendered
from tests.bench.speed.costs import cpu_us, family, on_core, resident_bytes
from tests.bench.speed.load import Load, answer_of, key_of, request_parts, script_of
from tests.bench.speed.measuring import disagreements
from tests.bench.speed.page import PLOTS, page
from tests.bench.speed.plan import (
    FLOOR,
    FULL,
    HITS,
    KEYS,
    MISS,
    NEAR_HIT,
    PATHS,
    REDIS_HIT,
    SIZES,
    SMALL,
    Cell,
    Question,
    cells,
)
from tests.bench.speed.profiles import (
    Profiles,
    by_library,
    own_time,
    read_folded,
    read_profiles,
    spell_folded,
)
from tests.bench.speed.shape import FIGURES, problems
from tests.bench.speed.targets import Judged, judge, spread
from tests.bench.speed.world import NEAR_SETTING, missing_near

ALIKE = {**dict.fromkeys(FIGURES, 100.0), "errors": 0.0}


def row_of(cell: Cell) -> dict[str, Any]:
    """Return a row with the same figures as every other, but what its path's name promises."""
    path = cell.path
    counts = {"store_commands": path.store_commands[0], "upstream_requests": 0.0}
    counts["upstream_requests"] = path.upstream_requests[0]
    place = {**asdict(cell), "path": path.name}
    return place | ALIKE | counts | {"answer_bytes": 1e6, "cpu_us_of_rounds": [1.0] * FULL.rounds}


def result_of(*missing: str) -> dict[str, Any]:
    """Return a whole result in which every path costs the same."""
    calls = {"connections": 32, "calls": 10, "cpu_us": 600.0, "per_s": 9.0, "p50_us": 1.0}
    trips = {"connections": 1, "requests_per_s": 1.0, "p50_us": 50.0, "p99_us": 60.0}
    near = {"near_budget_bytes": 100, "near_grown_bytes": 110}
    near |= {"plans_budget_bytes": 100, "plans_grown_bytes": 110}
    return {
        "commit": "0" * 40,
        "machine": {"cpu": "c", "cpus": 2, "architecture": "a", "kernel": "k"},
        "versions": {"python": "3.11"},
        "load_average": {"before": 0.1, "after": 1.0},
        "began": "2026-01-01T00:00:00+00:00",
        "took_s": 1,
        "effort": asdict(FULL),
        "full": True,
        "cores": {"server": 0, "load": 1},
        "missing": dict.fromkeys(missing, "it rains"),
        "cells": [row_of(cell) for cell in cells() if cell.path.name not in missing],
        "disagreements": [],
        "aiobotocore": calls,
        "redis-benchmark": [trips | {"store_cpu_us": 1.0}],
        "memory": {"start_cpu_s": 1.0, "start_bytes": 1 << 20, "entry_overhead_bytes": 9, **near},
        "stampede": {"readers": 4, "processes": 4, "upstream_reads": 1, "all_answered_s": 0.1},
    }


def row(result: dict[str, Any], cell: Cell) -> dict[str, Any]:
    """Return the row of a cell."""
    place = {**asdict(cell), "path": cell.path.name}
    return next(each for each in result["cells"] if place.items() <= each.items())


def judgement(result: dict[str, Any] | None, what: str) -> Judged:
    """Return what a result says of the one target whose name begins so."""
    (found,) = [each for each in judge(result) if each.target.what.startswith(what)]
    return found


def test_a_whole_result_has_no_problems() -> None:
    """Neither when every peer was there, nor when one is missing and says why."""
    assert problems(result_of()) == []
    assert problems(result_of(NEAR_HIT.name, "redis-benchmark")) == []


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda result: result.pop("stampede"), "other parts"),
        (lambda result: result["cells"].pop(), "a cell is missing"),
        (lambda result: result["cells"].append(result["cells"][0]), "there twice"),
        (lambda result: result["cells"][0].update(keys=7), "was not asked for"),
        (lambda result: result["cells"][0].pop("p50_us"), "other figures"),
        (lambda result: result["cells"][0].update(cpu_us=float("nan")), "a figure is none"),
        (lambda result: result["cells"][0]["cpu_us_of_rounds"].pop(), "missed a round"),
        (lambda result: result["missing"].update(lunch="eaten"), "nobody knows it"),
        (lambda result: result["missing"].update({"redis-benchmark": ""}), "without a reason"),
        (lambda result: result["disagreements"].append("odd"), "not as named: odd"),
        (lambda result: result["memory"].clear(), "cannot be judged"),
    ],
)
def test_what_a_result_lacks_is_told(spoil: Any, told: str) -> None:
    """Nothing can be left out of a result without a word."""
    result = result_of()
    spoil(result)
    assert any(told in problem for problem in problems(result))


def test_every_path_is_asked_for_every_size_and_number_of_connections() -> None:
    """Each cell once; hits also for every number of keys; a usual cell before all of its path."""
    planned = list(cells())
    assert len(planned) == len(set(planned))
    assert {cell.path for cell in planned} == set(PATHS)
    assert {cell.size_bytes for cell in planned if cell.path is MISS} == set(SIZES)
    for path in HITS:
        assert {cell.keys for cell in planned if cell.path is path} == set(KEYS)
    for path in PATHS:
        assert next(cell for cell in planned if cell.path is path) == Cell(path)


def test_a_ratio_is_judged_against_its_limit() -> None:
    """Met at the limit, missed beyond it, by a factor."""
    result = result_of()
    near = row(result, Cell(NEAR_HIT))
    floor = row(result, Cell(FLOOR))
    near["cpu_us"], floor["cpu_us"] = 13.0, 10.0
    assert judgement(result, "near hit: CPU per request").met
    near["cpu_us"] = 26.0
    missed = judgement(result, "near hit: CPU per request")
    assert missed.met is False
    assert missed.off_by == pytest.approx(2.0)


def test_a_least_ratio_is_judged_the_other_way_round() -> None:
    """A throughput that is too small is missed by how much more there should be."""
    result = result_of()
    row(result, Cell(NEAR_HIT))["requests_per_s"] = 75.0
    missed = judgement(result, "near hit: throughput")
    assert missed.met is False
    assert missed.off_by == pytest.approx(2.0)


def test_a_target_of_a_missing_path_is_named_as_not_measured() -> None:
    """With the reason, and neither met nor missed."""
    judged = judgement(result_of(NEAR_HIT.name), "near hit: CPU per request")
    assert (judged.met, judged.figure, judged.why) == (None, None, "it rains")
    judged = judgement(result_of("redis-benchmark"), "write")
    assert (judged.met, judged.why) == (None, "it rains")


def test_without_a_result_no_target_is_met() -> None:
    """Nor missed: nobody knows."""
    assert {each.met for each in judge(None)} == {None}


def test_latency_added_is_that_of_a_lone_client() -> None:
    """Against the nginx that stands in the proxy's place."""
    result = result_of()
    row(result, Cell(MISS, connections=1))["p50_us"] = 400.0
    assert judgement(result, "miss: latency added").figure == pytest.approx(0.3)


def test_spread_is_the_distance_to_the_middle() -> None:
    """Figures from 80 to 120 lie within 20 % of 100."""
    assert spread([80.0, 90.0, 120.0]) == pytest.approx(0.2)
    assert spread([5.0, 5.0]) == 0.0


@pytest.mark.parametrize(
    ("cell", "figures", "told"),
    [
        (Cell(REDIS_HIT), {"upstream_requests": 5.0}, "upstream requests per request"),
        (Cell(REDIS_HIT), {"store_commands": 0.2}, "store commands per request"),
        (Cell(MISS), {"upstream_requests": 0.5}, "upstream requests per request"),
        (Cell(FLOOR), {"errors": 0.01}, "failed"),
        (Cell(FLOOR, size_bytes=SIZES[-1]), {"answer_bytes": 400.0}, "answers of 400 B"),
    ],
)
def test_a_path_that_did_something_else_is_told(
    cell: Cell, figures: dict[str, float], told: str
) -> None:
    """A hit that asked DynamoDB, a miss that did not, a failure, another one's answer."""
    result = result_of()
    for each in result["cells"]:
        each["requests"] = 1e6
    assert disagreements(result["cells"]) == []
    row(result, cell).update(figures)
    (found,) = disagreements(result["cells"])
    assert told in found
    assert found.startswith(cell.path.name)


@pytest.mark.parametrize("writes", [False, True])
def test_a_request_is_one_of_an_sdk(*, writes: bool) -> None:
    """Its parts make a whole request whose length is right; ticket and key stand between them."""
    first, second, third, last = request_parts("items", writes=writes, size_bytes=SMALL)
    raw = f"{first}{'0' * 12}{second}{'1' * 12}{third}{7:010d}{last}"
    head, _, body = raw.partition("\r\n\r\n")
    fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
    assert int(fields["Content-Length"]) == len(body.encode())
    assert fields["X-Amz-Target"].endswith("PutItem" if writes else "GetItem")
    assert {"User-Agent", "Authorization", "X-Amz-Date", "amz-sdk-invocation-id"} <= fields.keys()
    if writes:
        assert json.loads(body)["Item"]["pk"] == key_of(7)["pk"]
    else:
        assert decode_get(body.encode()).key == key_of(7)


def test_a_script_paces_and_mixes_only_when_asked_to() -> None:
    """Wrk gets no hook that it does not need: each costs it time."""
    plain = script_of(Load(Question.READ, "items", SMALL, 1, keys=10))
    assert "scan, paced_ms, format, random = false, 0," in plain
    assert plain.count("GetItem") == 1
    mixed = Load(Question.READ, "items", SMALL, 1, keys=10, write_share=0.5, paced_ms=3)
    assert "PutItem" in script_of(mixed)
    assert "= false, 3," in script_of(mixed)
    assert "= true, 0," in script_of(Load(Question.NEW, "items", SMALL, 1, keys=10))


@pytest.mark.parametrize("size", SIZES)
def test_an_answer_is_an_item_of_its_size(size: int) -> None:
    """And nothing that nginx would read as its own."""
    body = answer_of(size)
    assert 0.9 < len(body) / size < 1.1
    assert json.loads(body).keys() == {"Item"}
    assert not set(body.decode()) & set("'$\\")


def test_costs_are_those_of_a_living_process() -> None:
    """Time grows by what was burnt, memory is more than nothing, our family begins with us."""
    own = os.getpid()
    before = cpu_us([own])
    # The scheduler counts a process that runs at its next tick only.
    assert any(sum(range(20_000)) and cpu_us([own]) > before for _ in range(10_000))
    assert resident_bytes(own) > 1 << 20
    assert next(iter(family(own))) == own
    allowed = os.sched_getaffinity(0)
    with on_core(min(allowed)):
        assert os.sched_getaffinity(0) == {min(allowed)}
    assert os.sched_getaffinity(0) == allowed


def test_near_hits_are_missing_exactly_where_their_setting_is() -> None:
    """They appear in the table with the version that has them."""
    assert (missing_near() is None) == (NEAR_SETTING in setting_names())


STACKS = {
    "main (a.py);read (proxy/edge/x.py)": 60,
    "main (a.py);read (proxy/edge/x.py);send (aiohttp/y.py)": 39,
    "main (a.py)": 1,
}


def test_the_next_bottleneck_is_where_most_time_is_spent_itself() -> None:
    """Not in what it calls; the same by package."""
    assert [(each.name, each.share) for each in own_time(STACKS)] == [
        ("read (proxy/edge/x.py)", 0.6),
        ("send (aiohttp/y.py)", 0.39),
        ("main (a.py)", 0.01),
    ]
    assert [each.name for each in by_library(STACKS)] == ["proxy", "aiohttp", "other"]


def test_kept_stacks_come_back_as_they_were() -> None:
    """Without line numbers, and without what was hardly ever seen."""
    assert read_folded(spell_folded(STACKS)) == STACKS
    assert read_folded("main (a.py:3) 2\nmain (a.py:9) 3\n 4\n") == {"main (a.py)": 5}
    assert spell_folded({"often": 1000, "once": 1}) == "often 1000\n"


def test_profiles_are_read_where_they_are_kept(tmp_path: Any) -> None:
    """None where nothing was sampled."""
    assert read_profiles(tmp_path) is None
    (tmp_path / "about.json").write_text('{"commit": "c"}')
    (tmp_path / "miss.folded").write_text("main 1\n")
    assert read_profiles(tmp_path) == Profiles({"commit": "c"}, {"miss": {"main": 1}})


def test_page_shows_every_part_of_a_result() -> None:
    """Targets, each path that was there, what was missing, and where the time goes."""
    about = {"commit": "c", "seconds": 10.0, "samples_per_s": 500, "load_average": 0.5}
    shown = page(result_of(NEAR_HIT.name), Profiles(about, {REDIS_HIT.name: STACKS}))
    for path in PATHS:
        assert path.title in shown
    assert "not measured: it rains" in shown
    assert "**missed**, by a factor of" in shown
    assert "| met |" in shown
    assert "`read (proxy/edge/x.py)` 60%" in shown
    assert all(f"benchmarks/{name}.png" in shown for name in PLOTS)


def test_page_says_that_there_is_no_result() -> None:
    """It shows the targets all the same, and no picture."""
    shown = page(None, None)
    assert "No result is kept" in shown
    assert "No profile is kept" in shown
    assert ".png" not in shown


def test_the_page_is_that_of_the_result_that_is_kept() -> None:
    """docs/benchmarks.md is exactly what is rendered, with its pictures beside it."""
    assert PAGE.read_text() == rendered()
    result = kept_result()
    pictures = {path.stem for path in (PAGE.parent / "benchmarks").glob("*.png")}
    assert pictures == (set(PLOTS) if result else set())
    if result is not None:
        assert result["full"], "a result of `make bench`, not of the smoke run"
        assert problems(result) == []
