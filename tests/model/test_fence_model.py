"""The protocol keeps its promise in every order of steps, and needs each of its rules for that."""

from __future__ import annotations

import pytest

from tests.model.fence_model import MUTANTS, SUITE, Job, check


@pytest.mark.parametrize("job", SUITE, ids=str)
def test_no_order_of_steps_breaks_the_promise(job: Job) -> None:
    """No reader is answered with less than what was visible or acknowledged before it came."""
    states, failing_run = check(job.readers, job.writers, job.options)
    assert failing_run is None, "\n".join(failing_run or [])
    assert states > 1000


@pytest.mark.parametrize("job", MUTANTS, ids=str)
def test_without_one_rule_some_order_breaks_the_promise(job: Job) -> None:
    """Each rule is needed: without it the model finds a run that shows a reader the past."""
    _, failing_run = check(job.readers, job.writers, job.options)
    assert failing_run is not None
    assert "was already visible" in failing_run[-1]
