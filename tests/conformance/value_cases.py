"""Attribute values that a client may write, and keys that it may confuse."""

from __future__ import annotations

from typing import Any, Final

from tests.conformance.read_cases import DIGITS_38
from tests.support.dynamo_wire import Json

KIB: Final = 1024


def nested(levels: int, kind: str) -> Json:
    """Return a value with this many levels of lists or maps around a text."""
    value: Json = {"S": "deep"}
    for _ in range(levels):
        value = {"L": [value]} if kind == "L" else {"M": {"m": value}}
    return value


def numbers(*texts: str) -> dict[str, Json]:
    """Name each spelling of a number by itself."""
    return {f"number {text!a}": {"N": text} for text in texts}


TYPES: Final[dict[str, Json]] = {
    "string": {"S": "text"},
    "number": {"N": "42"},
    "binary": {"B": "AAEC/w=="},
    "true": {"BOOL": True},
    "false": {"BOOL": False},
    "null": {"NULL": True},
    "string set": {"SS": ["b", "a", "c"]},
    "number set": {"NS": ["3", "-1", "2"]},
    "binary set": {"BS": ["AQ==", "AA==", "/w=="]},
    "list": {"L": [{"S": "a"}, {"N": "1"}, {"S": "a"}, {"NULL": True}]},
    "map": {"M": {"b": {"N": "1"}, "a": {"BOOL": False}}},
}
NUMBERS: Final = numbers(
    *("0", "-0", "0.0", "0e7", "1", "+1", "-1", "01", "1.", ".5", "-.5e1", "1.10", "1e0", "10E-1"),
    *(DIGITS_38, "-" + DIGITS_38, "0." + DIGITS_38, DIGITS_38[:20] + "." + DIGITS_38[20:]),
    *("1E+125", "9." + "9" * 37 + "E125", "1E-130", "-1e-130", "0.000001", "0.0000001", "1e20"),
    *("1" + "0" * 37, "1" + "0" * 60, "0." + "0" * 60 + "1"),
)
SETS: Final[dict[str, Json]] = {
    "set sorted": {"SS": ["a", "b", "c"]},
    "set reversed": {"SS": ["c", "b", "a"]},
    "set of look-alikes": {"SS": ["é", "e\u0301", "e"]},
    "set of numbers as spelled": {"NS": ["1e1", "2.0", "+3", "-0.5"]},
    "set of one": {"NS": [DIGITS_38]},
    "set of many": {"NS": [str(7 * number % 101) for number in range(1, 101)]},
    "set with an empty text": {"SS": ["", "a"]},
}
EMPTY: Final[dict[str, Json]] = {
    "empty string": {"S": ""},
    "empty binary": {"B": ""},
    "empty list": {"L": []},
    "empty map": {"M": {}},
    "emptiness inside": {"M": {"l": {"L": [{"S": ""}, {"B": ""}, {"L": []}, {"M": {}}]}}},
}
NESTED: Final = {
    f"{levels} levels of {kind}": nested(levels, kind) for levels in (31, 32, 33) for kind in "LM"
}
TEXTS: Final[dict[str, Json]] = {
    "four bytes": {"S": "𝄞🎉\U0010ffff"},
    "combining": {"S": "e\u0301 \u1100\u1161 \u0338"},
    "composed": {"S": "é 가 ≠"},
    "nul": {"S": "\x00a\x00"},
    "controls": {"S": "\x01\x1f\x7f\x85 \t\r\n"},
    "quotes": {"S": '"\\/\b\f'},
    "separators": {"S": "\u2028\u2029\ufeff\u200b\u202e"},
    "noncharacters": {"S": "\ufffe\uffff\ufffd"},
    "odd names": {"M": {"": {"N": "1"}, "a.b[0]": {"N": "2"}, "#:x": {"N": "3"}, "🎉": {"N": "4"}}},
}
REFUSED: Final[dict[str, Json]] = {
    **numbers("", "one", "NaN", "Infinity", "1_0", " 1", "1 ", "0x10", "\uff11", "1e", "e1", "--1"),
    **numbers(DIGITS_38 + "9", "1E126", "1E-131", "1e9999"),
    "lone surrogate": {"S": "\ud800"},
    "bad base64": {"B": "AAEC/w"},
    "null that is not": {"NULL": False},
    "empty set": {"SS": []},
    "same twice": {"SS": ["a", "a"]},
    "same number twice": {"NS": ["1", "1.0"]},
    "set of sets": {"SS": [["a"]]},
    "two types": {"S": "a", "N": "1"},
    "no type": {},
    "unknown type": {"X": "a"},
    "number that is a number": {"N": 1},
    "text that is a number": {"S": 1},
}
ALL_VALUES: Final = TYPES | NUMBERS | SETS | EMPTY | NESTED | TEXTS | REFUSED

SIZES: Final[dict[str, str]] = {
    "one byte each": "x",
    "two bytes each": "é",
    "three bytes each": "가",
    "four bytes each": "🎉",
}


def sized_item(item_id: str, text: str, item_bytes: int) -> dict[str, Any]:
    """Return an item of a size, as DynamoDB counts: names and contents in UTF-8."""
    left = item_bytes - len("pk") - len(item_id.encode()) - len("v")
    count, rest = divmod(left, len(text.encode()))
    return {"pk": {"S": item_id}, "v": {"S": text * count + "x" * rest}}


SAME_NUMBERS: Final = [
    ["1", "1.0", "01", "1e0", "10E-1", "0.1e1", "1."],
    ["0", "-0", "0.0", "0e5", "0E-130"],
    ["-1200", "-12e2", "-1.2E+3", "-1200.000"],
    [DIGITS_38, DIGITS_38 + ".0", DIGITS_38[0] + "." + DIGITS_38[1:] + "e37"],
    ["1E-130", "0.1E-129", "0." + "0" * 129 + "1"],
    ["9." + "9" * 37 + "E125", "9" * 38 + "E88", "9" * 38 + "0" * 88],
]
"""Spellings of one number each: one item."""

LOOK_ALIKES: Final[dict[str, list[Json]]] = {
    "hash": [
        {"S": text}
        for text in (
            *(
                "é",
                "e\u0301",
                "e",
                "E",
                "\u212a",
                "K",
                "k",
                "ﬀ",
                "ff",
                "ß",
                "ss",
                "A",
                "\u0410",
                "\u0391",
            ),
            *("a", "a\x00", "\x00", "\x00\x00", " a", "a ", "a\u200b", "\ufeffa", "a\u2028"),
            *(
                "😀",
                "😁",
                "\U0001f600\ufe0f",
                "\U0010ffff",
                "\uffff",
                "\ue000",
                "가",
                "\u1100\u1161",
            ),
            *(
                "1",
                "1.0",
                "$",
                "{a}",
                "a|b",
                "a:b",
                "a/b",
                "%61",
                "\\u0061",
                '{"S":"a"}',
                "x" * 2048,
            ),
            "x" * 2047,
        )
    ],
    "number": [
        {"N": text}
        for text in (
            *("1", "-1", "10", "0.1", "0", "1E-130", "2E-130", "-1E-130", "1E125", "1E124"),
            *(DIGITS_38, DIGITS_38[:-1] + "9", "0." + DIGITS_38, "9" * 38, "9" * 37 + "8"),
        )
    ],
    "binary": [
        {"B": text}
        for text in ("AA==", "AAA=", "AAAA", "AQ==", "/w==", "//8=", "YQ==", "7aCA", "w6k=", "ZcyB")
    ],
}
"""Keys that look alike, or whose spellings share a beginning, and still name different items."""
