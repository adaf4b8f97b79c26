"""The list of accepted differences explains itself and names nothing that is gone."""

from __future__ import annotations

import pytest

from tests.conformance.accepted_differences import ACCEPTED, AcceptedDifference
from tests.conformance.batch_cases import BATCH_CASES
from tests.conformance.page_cases import PAGE_CASES
from tests.conformance.pair import ENGINES
from tests.conformance.read_cases import READ_CASES
from tests.conformance.write_cases import WRITE_CASES

NAMES = [
    *(case.name for case in (*READ_CASES, *BATCH_CASES, *PAGE_CASES)),
    *(case.name for case in WRITE_CASES),
]


@pytest.mark.parametrize("difference", ACCEPTED, ids=lambda each: each.cases[0])
def test_difference_is_explained_and_has_cases(difference: AcceptedDifference) -> None:
    """Each has a reason in a sentence, known engines, and cases that still exist."""
    assert difference.reason.endswith(".")
    assert difference.reason.count(" ") > 8
    assert set(difference.engines) <= set(ENGINES)
    assert set(difference.cases) <= set(NAMES)


def test_case_names_are_unique() -> None:
    """No difference can be accepted for a case that only shares a name."""
    assert len(set(NAMES)) == len(NAMES)
