"""Everything in which the proxy's answer may differ from the engine's, each with its reason.

`expected` turns the engine's own answer into the one that the proxy gives instead. A difference
that no longer shows fails its test, so the list cannot grow old.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from tests.conformance.pair import ENGINES
from tests.support.dynamo_wire import JSON_1_0, Json, Reply

SERIALIZATION: Final = "com.amazon.coral.service#SerializationException"
VALIDATION: Final = "com.amazon.coral.validate#ValidationException"
MISSING_TOKEN: Final = "com.amazon.coral.service#MissingAuthenticationTokenException"


class Step(StrEnum):
    """When a case is asked through the proxy."""

    COLD = "cold"  # a read, or a write, while nothing is cached
    WARM = "warm"  # again, now that what can be cached is


@dataclass(frozen=True)
class AcceptedDifference:
    """One way in which the proxy may differ.

    Args:
        cases: names of the cases it applies to.
        reason: why the proxy is right to differ, or why it cannot be helped.
        expected: from the engine's answer, the answer to expect.
        steps: when it shows.
        engines: where it shows.
    """

    cases: tuple[str, ...]
    reason: str
    expected: Callable[[Reply], Reply]
    steps: frozenset[Step] = frozenset(Step)
    engines: tuple[str, ...] = ENGINES

    def applies(self, engine: str, case: str, step: Step) -> bool:
        """Tell whether it applies to one step of a case."""
        return case in self.cases and engine in self.engines and step in self.steps


def _capacity(*, factor: float) -> Callable[[Reply], Reply]:
    """Multiply the capacity units that the engine reports."""

    def scaled(consumed: Json) -> Json:
        return {
            name: scaled(part)
            if isinstance(part, dict)
            else (part * factor if name == "CapacityUnits" else part)
            for name, part in consumed.items()
        }

    def expected(reply: Reply) -> Reply:
        consumed = reply.content["ConsumedCapacity"]
        all_scaled = (
            [scaled(each) for each in consumed] if isinstance(consumed, list) else scaled(consumed)
        )
        return reply.containing(reply.content | {"ConsumedCapacity": all_scaled})

    return expected


def _batch_capacity_free(reply: Reply, **parts: Json) -> Reply:
    """Add that no table of a batch cost anything."""
    free = [
        {"TableName": table, "CapacityUnits": 0.0, **parts}
        for table in sorted(reply.content["Responses"])
    ]
    return reply.containing(reply.content | {"ConsumedCapacity": free})


def _batch_capacity_free_by_index(reply: Reply) -> Reply:
    return _batch_capacity_free(reply, Table={"CapacityUnits": 0.0})


def _typed(content_type: str) -> Callable[[Reply], Reply]:
    """Set the Content-Type."""

    def expected(reply: Reply) -> Reply:
        return replace(reply, headers={**reply.headers, "content-type": content_type})

    return expected


def _refused(error_type: str, message: str = "") -> Callable[[Reply], Reply]:
    """Refuse with an error of the proxy's own, whatever the engine said."""
    content: Mapping[str, str] = {"__type": error_type} | ({"message": message} if message else {})

    def expected(reply: Reply) -> Reply:
        return _typed(JSON_1_0)(replace(reply.containing(dict(content)), status=400))

    return expected


def _unknown_operation(reply: Reply) -> Reply:
    error = {"__type": "UnknownOperationException", "message": "Unknown operation: "}
    return _typed(JSON_1_0)(reply.containing(error))


CAPACITY_CASES: Final = (
    "capacity-total",
    "capacity-indexes",
    "capacity-missing-item",
    "capacity-projected",
    "page-query-capacity-total",
)
BATCH_CAPACITY_CASES: Final = ("batch-capacity-total", "batch-capacity-indexes")

ACCEPTED: Final = [
    AcceptedDifference(
        CAPACITY_CASES,
        "A fill reads with ConsistentRead, which costs twice the units of the eventually"
        " consistent read that was asked for; the caller is told what was really spent.",
        _capacity(factor=2),
        frozenset({Step.COLD}),
    ),
    AcceptedDifference(
        CAPACITY_CASES,
        "A hit spends no read capacity, and its answer says so.",
        _capacity(factor=0),
        frozenset({Step.WARM}),
    ),
    AcceptedDifference(
        BATCH_CAPACITY_CASES,
        "As for single reads: a fill reads with ConsistentRead, which costs twice the units.",
        _capacity(factor=2),
        frozenset({Step.COLD}),
        engines=("dynalite",),
    ),
    AcceptedDifference(
        BATCH_CAPACITY_CASES,
        "As for single reads: a hit spends no read capacity, and its answer says so.",
        _capacity(factor=0),
        frozenset({Step.WARM}),
        engines=("dynalite",),
    ),
    AcceptedDifference(
        BATCH_CAPACITY_CASES[:1],
        "This engine tells no capacity for batches, which DynamoDB does; the proxy tells none"
        " spent where upstream told nothing.",
        _batch_capacity_free,
        engines=("dynamodb",),
    ),
    AcceptedDifference(
        BATCH_CAPACITY_CASES[1:],
        "The same, with the part of the table itself, as INDEXES asks for.",
        _batch_capacity_free_by_index,
        engines=("dynamodb",),
    ),
    AcceptedDifference(
        ("authorization-missing", "put-unsigned"),
        "The proxy signs with its own credentials, so it refuses unsigned calls itself, in"
        " DynamoDB's words; this engine does not look at signatures.",
        _refused(MISSING_TOKEN, "Request is missing Authentication Token"),
        engines=("dynamodb",),
    ),
    AcceptedDifference(
        ("target-missing-unsigned", "target-unknown-unsigned"),
        "The engines first look for the operation; the proxy cannot know every operation that"
        " there will be, and signs none for a caller who did not.",
        _refused(MISSING_TOKEN, "Request is missing Authentication Token"),
    ),
    AcceptedDifference(
        ("content-type-json",),
        "DynamoDB's answer has the Content-Type of the request, and so has the proxy's; this"
        " engine knows one Content-Type only.",
        _typed("application/json"),
        engines=("dynamodb",),
    ),
    AcceptedDifference(
        ("get-root", "get-path"),
        "What goes upstream is signed for DynamoDB; this engine serves many services and takes"
        " an unsigned GET for one of S3.",
        _unknown_operation,
        engines=("dynamodb",),
    ),
    AcceptedDifference(
        ("get-root", "get-path", "put-root", "delete-root"),
        "This engine leaves the Content-Type out, which DynamoDB never does; the proxy adds one.",
        _typed("application/octet-stream"),
        engines=("dynalite",),
    ),
    AcceptedDifference(
        ("put-member-twice",),
        "Which of two members of one name counts is the parser's choice; a write must not reach"
        " a parser that may choose another item than the one that is fenced.",
        _refused(SERIALIZATION, "a member name occurs twice"),
    ),
    AcceptedDifference(
        ("put-coding-unknown",),
        "What the body would write cannot be read, so no fence could cover it; DynamoDB knows no"
        " such coding either, these engines ignore the field.",
        _refused(SERIALIZATION, "unreadable Content-Encoding"),
    ),
    AcceptedDifference(
        ("put-empty-body", "put-cut-body"),
        "The proxy refuses what is no JSON object in DynamoDB's own words; this engine has others.",
        _refused(SERIALIZATION),
        engines=("dynamodb",),
    ),
    AcceptedDifference(
        ("put-array",),
        "The proxy refuses what is no JSON object in DynamoDB's own words; the engines have others,"
        " one of them a 500.",
        _refused(SERIALIZATION),
    ),
    AcceptedDifference(
        ("partiql-syntax",),
        "A statement whose table the proxy cannot tell must not be sent without a fence.",
        _refused(VALIDATION, "dynaside cannot tell which table this statement writes to"),
    ),
]


def accepted(engine: str, case: str, step: Step) -> list[AcceptedDifference]:
    """Return what may differ in one step of a case."""
    return [each for each in ACCEPTED if each.applies(engine, case, step)]
