import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgedistill.networks.logits import restrict_logits
from edgedistill.subspaces.evidence import evidence
from edgedistill_deploy.errors import EdgeDistillError, UsageError
from reference import slow_subdistill


@given(arrays.arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 6)), elements=st.floats(-100, 100)))
@settings(max_examples=30, deadline=None)
def test_evidence_is_the_gap_between_the_two_largest_logits(logits: np.ndarray) -> None:
    found = evidence(torch.from_numpy(logits))
    assert found.tolist() == [slow_subdistill.evidence(row) for row in logits]


def test_restricted_logits_are_in_the_order_of_the_subtask() -> None:
    outputs = torch.arange(10.0).reshape(2, 5)
    assert restrict_logits(outputs, [3, 0]).tolist() == [[3.0, 0.0], [8.0, 5.0]]


@pytest.mark.parametrize("indices", [[], [1, 1], [-1, 2], [2, 5]])
def test_indices_that_are_no_subtask_are_refused(indices: list[int]) -> None:
    with pytest.raises(UsageError, match=r"different numbers from 0 to 4, the teacher's outputs; given: \["):
        restrict_logits(torch.zeros(2, 5), indices)


@pytest.mark.parametrize(("outputs", "described"), [(torch.zeros(2, 3, 4, 4), r"\(2, 3, 4, 4\)"), ([1, 2], "list")])
def test_a_teacher_that_returns_no_logits_is_refused(outputs: object, described: str) -> None:
    with pytest.raises(EdgeDistillError, match=rf"logits of shape \(N, classes\), and it returned {described}"):
        restrict_logits(outputs, [0])
