"""Sizes between a student and its teacher."""

import itertools

import pytest
from torch import nn

from edgedistill.models.student import build_student
from edgedistill.networks.cost import count_cost
from edgedistill.planning.between import candidates_between
from edgedistill.planning.candidates import Candidate

SIZE = (32, 32)


def build(candidate: Candidate) -> nn.Module:
    return build_student(candidate.name, 4, width=candidate.width, image_size=SIZE)


def cost_of(candidate: Candidate) -> int:
    return count_cost(build(candidate), SIZE).multiply_adds


@pytest.mark.parametrize("text", ["plain:16-16-16", "timm:resnet10t@0.125"])
def test_a_family_with_a_width_becomes_wider_in_equal_steps(text: str) -> None:
    student = Candidate.parse(text)
    cost = cost_of(student)
    found = candidates_between(student, build, SIZE, cost, 30 * cost)
    assert [each.name for each in found] == [student.name] * 2
    costs = [cost, *map(cost_of, found), 30 * cost]
    steps = [after / before for before, after in itertools.pairwise(costs)]
    assert all(1.5 < step < 7 for step in steps), steps


def test_a_family_without_a_width_takes_students_that_a_plan_times() -> None:
    student, size = Candidate.parse("timm:mobilenetv4_conv_small_035"), (64, 64)
    cost = count_cost(build_student(student.name, 4), size).multiply_adds
    found = candidates_between(student, build, size, cost, 40 * cost)
    assert found
    costs = [count_cost(build(each), size).multiply_adds for each in found]
    assert all(1.5 * cost <= each <= 40 * cost / 1.5 for each in costs)


def test_there_is_nothing_between_neighbours() -> None:
    student = Candidate.parse("plain:16-16-16")
    cost = cost_of(student)
    assert candidates_between(student, build, SIZE, cost, 2 * cost) == ()
