"""The fast door changes nothing: the same bytes to two proxies, of which one has a door.

Whatever arrives, cut into whatever pieces: both give the same bytes, but for request ids and dates,
tell the same events, count the same, and end their connections at the same time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.door_requests import FIELDS, raw_request
from tests.support.door_rig import BODIES, KEEPALIVE_S, PEERS, DoorRig, Seen, body
from tests.support.memory_peer import turns
from tests.support.virtual_time import VirtualTimeLoop

GET: Final = raw_request(body("held"))


@dataclass(frozen=True)
class Sent:
    """Bytes of one client arrive, the next ones before anybody could do anything about them."""

    peer: int
    data: bytes
    more: bytes = b""

    def __call__(self, rig: DoorRig) -> None:
        """Let them."""
        rig.send(self.peer, self.data)
        if self.more:
            rig.send(self.peer, self.more)


@dataclass(frozen=True)
class Waited:
    """Time passes."""

    seconds: float


@dataclass(frozen=True)
class Called:
    """Something happens to one client, or to all."""

    name: str
    peer: int

    def __call__(self, rig: DoorRig) -> None:
        """Let it."""
        transport, connection = rig.peers[self.peer].transport, rig.peers[self.peer].connection
        match self.name:
            case "drain":
                rig.server.draining = True
            case "hang up":
                transport.close()
            case "pause" if not connection._paused and not transport.closing:
                connection.pause_writing()
            case "resume" if connection._paused:
                connection.resume_writing()
            case "forget":
                rig.held.clear()


# --- what clients send ---------------------------------------------------------------------

ODD_FIELDS: Final = [
    {"X_Dynaside_Cache": "bypass"},
    {"X_Dynaside_Cache": "only-if-cached"},
    {"X_Dynaside_Cache": "refresh"},
    {"X_Dynaside_Cache": "nonsense"},
    {"Origin": "https://a.example"},
    {"Connection": "close"},
    {"Connection": "keep-alive"},
    {"Connection": "Upgrade", "Upgrade": "h2c"},
    {"Expect": "100-continue"},
    {"Content_Encoding": "gzip"},
    {"Content_Type": "application/json"},
    {"Content_Type": None},
    {"Authorization": None},
    {"Authorization": ""},
    {"Host": None},
    {"X_Hop": "me"},
    {"X_Amz_Target": None},
    {"X_Amz_Target": "DynamoDB_20120810.PutItem"},
    {"X_Amz_Target": "DynamoDB_20111205.GetItem"},
    {"X_Amz_Target": "dynamodb_20120810.GetItem"},
    {"X_Amz_Date": "20261123T235959Z"},
    {"X_Other": "x" * 3000},
    {"User_Agent": "x" * 3000},
    {"length": "0"},
    {"length": "3"},
    {"length": "+50"},
    {"length": None},
    {"length": "99999999999"},
]


Pair = tuple[bytes, bytes, bytes]

OF_EACH_FIELD: Final[dict[str, Callable[[bytes, bytes, bytes], Pair]]] = {
    "lower": lambda name, colon, value: (name.lower(), colon, value),
    "upper": lambda name, colon, value: (name.upper(), colon, value),
    "bare": lambda name, colon, value: (name, colon, value.strip()),
    "blanks": lambda name, colon, value: (name, colon, b"\t " + value + b" \t"),
    "before colon": lambda name, colon, value: (name + b" ", colon, value),
    "folded": lambda name, colon, value: (name, colon, b"\r\n" + value),
}
OF_ALL_FIELDS: Final[dict[str, Callable[[list[Pair]], list[Pair]]]] = {
    "backwards": lambda pairs: pairs[::-1],
    "twice": lambda pairs: pairs + pairs[2:3],
}
OF_THE_REST: Final[dict[str, tuple[bytes, bytes]]] = {
    "line feeds": (b"\r\n", b"\n"),
    "http/1.0": (b"HTTP/1.1", b"HTTP/1.0"),
    "absolute": (b"POST / ", b"POST http://x/ "),
    "query": (b"POST / ", b"POST /?a "),
    "another method": (b"POST", b"PUT"),
}
WAYS: Final = [*OF_EACH_FIELD, *OF_ALL_FIELDS, *OF_THE_REST]


def spell(raw: bytes, way: str) -> bytes:
    """Spell a request's head in another way that means the same, or nearly."""
    if way in OF_THE_REST:
        return raw.replace(*OF_THE_REST[way])
    head, end, rest = raw.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    pairs = [line.partition(b":") for line in lines]
    if way in OF_EACH_FIELD:
        pairs = [OF_EACH_FIELD[way](*pair) for pair in pairs]
    else:
        pairs = OF_ALL_FIELDS[way](pairs)
    return b"\r\n".join([first, *(b"".join(pair) for pair in pairs)]) + end + rest


def chunked(content: bytes) -> bytes:
    """Return a request whose body comes in chunks."""
    head = raw_request(b"", FIELDS, length=None, Transfer_Encoding="chunked")
    return head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)


def requests() -> st.SearchStrategy[bytes]:
    """Return requests, most of them ordinary."""
    plain = st.sampled_from(sorted(BODIES)).map(lambda name: raw_request(body(name)))
    odd = st.builds(
        lambda name, fields: raw_request(body(name), **fields),
        st.sampled_from(["held", "stored"]),
        st.sampled_from(ODD_FIELDS),
    )
    return st.one_of(
        st.just(GET),
        st.just(GET),
        plain,
        odd,
        st.builds(spell, plain | odd, st.sampled_from(WAYS)),
        st.just(chunked(body("held"))),
        st.builds(damaged, st.just(GET), st.integers(0, len(GET) - 1), st.integers(0, 255)),
        st.sampled_from([b"\r\n", b"\x16\x03\x01", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"]),
    )


def damaged(raw: bytes, at: int, byte: int) -> bytes:
    """Return bytes of which one is another."""
    return raw[:at] + bytes([byte]) + raw[at + 1 :]


@st.composite
def pieces(draw: st.DrawFn) -> list[bytes]:
    """Return what one client sends, as it arrives: in one piece, in several, or run together."""
    whole = b"".join(draw(st.lists(requests(), min_size=1, max_size=2)))
    cuts = sorted(draw(st.sets(st.integers(1, len(whole) - 1), max_size=3)))
    return [whole[start:stop] for start, stop in zip([0, *cuts], [*cuts, None], strict=True)]


def steps() -> st.SearchStrategy[list[Sent | Waited | Called]]:
    """Return a course of events."""
    peer = st.integers(0, PEERS - 1)
    sent = st.builds(lambda who, parts: [Sent(who, part) for part in parts], peer, pieces())
    together = st.builds(
        lambda who, first, more: [Sent(who, first, more)], peer, requests(), requests()
    )
    waited = st.sampled_from([0.0, 0.0, 1.0, KEEPALIVE_S - 0.5, KEEPALIVE_S + 0.5])
    called = st.sampled_from(["drain", "hang up", "pause", "resume", "forget"])
    one = st.one_of(
        sent,
        sent,
        together,
        waited.map(lambda seconds: [Waited(seconds)]),
        st.builds(lambda name, who: [Called(name, who)], called, peer),
    )
    return st.lists(one, min_size=1, max_size=10).map(
        lambda groups: [step for group in groups for step in group]
    )


# --- what comes of it ----------------------------------------------------------------------


async def play(course: list[Sent | Waited | Called], rig: DoorRig) -> list[Seen]:
    """Let it happen, one thing after the other, and return what was seen after each."""
    seen = []
    await turns()
    for step in course:
        if isinstance(step, Waited):
            await asyncio.sleep(step.seconds)
        else:
            step(rig)
        await turns()
        seen.append(rig.seen())
    await asyncio.sleep(2 * KEEPALIVE_S)
    seen.append(rig.seen())
    await rig.end()
    return seen


def outcome(
    course: list[Sent | Waited | Called], *, door: bool, cross_origin: bool, room: int
) -> tuple[list[Seen], int]:
    """Return what was seen, and how many pieces were answered at once."""

    async def main() -> tuple[list[Seen], int]:
        rig = DoorRig(door=door, cross_origin=cross_origin, bodies_bytes_max=room)
        return await play(course, rig), rig.at_once

    # Debug mode would keep the stack of each step: several times the time of all else.
    with asyncio.Runner(debug=False, loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main())


def check(
    course: list[Sent | Waited | Called], *, cross_origin: bool = False, room: int = 4000
) -> int:
    """Compare both ways; return how many pieces the door answered."""
    with_door, opened = outcome(course, door=True, cross_origin=cross_origin, room=room)
    without, never = outcome(course, door=False, cross_origin=cross_origin, room=room)
    assert never == 0
    for number, (seen, expected) in enumerate(zip(with_door, without, strict=True)):
        assert seen == expected, f"after step {number} of {course}"
    return opened


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
@given(course=steps(), cross_origin=st.booleans(), room=st.sampled_from([40, 60, 4000]))
def test_whatever_arrives_both_ways_are_the_same(
    course: list[Sent | Waited | Called], *, cross_origin: bool, room: int
) -> None:
    """Bytes, events, counts and the ends of connections."""
    check(course, cross_origin=cross_origin, room=room)


@pytest.mark.parametrize("fields", ODD_FIELDS, ids=str)
def test_each_odd_field_both_ways(fields: dict[str, str | None]) -> None:
    """In one piece, in two, and with an ordinary request before and after."""
    odd = raw_request(body("held"), **fields)  # type: ignore[arg-type]
    for course in (
        [Sent(0, GET), Sent(0, odd), Sent(0, GET)],
        [Sent(0, GET), Sent(0, odd[:100]), Sent(0, odd[100:]), Sent(0, GET)],
        [Sent(0, GET), Sent(0, odd + GET), Sent(0, GET)],
    ):
        assert check([*course]) >= 1


@pytest.mark.parametrize("way", WAYS)
def test_each_spelling_both_ways(way: str) -> None:
    """As above."""
    odd = spell(GET, way)
    assert odd != GET
    assert check([Sent(0, GET), Sent(0, odd), Sent(0, odd + GET), Sent(0, GET)]) >= 1


@pytest.mark.parametrize("name", sorted(BODIES))
def test_each_request_both_ways(name: str) -> None:
    """First alone, then again, then among others."""
    raw = raw_request(body(name))
    opened = check([Sent(0, raw), Sent(0, raw), Sent(1, GET), Sent(0, raw + GET), Sent(0, GET)])
    assert opened >= (4 if name in {"held", "absent"} else 1)


def test_every_byte_both_ways() -> None:
    """Each byte of a request changed to each of some others: what is answered at once is right."""
    for first, other in enumerate(b"\x00\n\r \t:;a0\x7f\xe9"):
        for at in range(first, len(GET), 23):
            check([Sent(0, GET), Sent(0, damaged(GET, at, other)), Sent(0, GET)])


def test_every_cut_both_ways() -> None:
    """Wherever a request is cut in two, the door opens again after it."""
    for at in range(1, len(GET), 5):
        course = [Sent(0, GET), Sent(0, GET[:at]), Sent(0, GET[at:]), Sent(0, GET)]
        assert check([*course]) == 2


def test_a_hit_keeps_the_connection_as_long_as_any_answer() -> None:
    """Idle time counts from the last answer, at once or not."""
    nearly = Waited(KEEPALIVE_S - 0.5)
    assert check([Sent(0, GET), nearly, Sent(0, GET), nearly, Sent(0, GET)]) == 3
    assert check([Sent(0, GET), Waited(KEEPALIVE_S + 0.5), Sent(0, GET)]) == 1


@pytest.mark.parametrize("name", ["drain", "hang up", "pause", "forget"])
def test_each_event_both_ways(name: str) -> None:
    """A drain, a full buffer, an entry that is gone: what comes after is the same."""
    twice = [Sent(0, GET)] * 2
    assert check([Sent(0, GET), Called(name, 0), *twice, Called("resume", 0), *twice]) >= 1


def test_what_follows_a_request_in_work_both_ways() -> None:
    """A hit that arrives while a miss was only just read waits behind it."""
    miss = raw_request(body("stored"))
    for first in (miss, GET, raw_request(body("held"), X_Dynaside_Cache="bypass")):
        check([Sent(0, first, GET), Sent(0, GET)])


@pytest.mark.parametrize("begun", [b"PO", b"POST / HTTP/1.1\r\nHost: h", b"\r"])
def test_an_odd_request_with_the_beginning_of_another_both_ways(begun: bytes) -> None:
    """A whole GetItem that arrives then is none: it is the rest of what was begun."""
    odd = b"GET / HTTP/1.1\r\nHost: h\r\nAuthorization: a\r\n\r\n"
    check([Sent(0, odd + begun), Sent(0, GET), Sent(0, GET)])
