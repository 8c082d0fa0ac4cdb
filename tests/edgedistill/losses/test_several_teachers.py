"""Several teachers as one: the shares and the mixture against formulas by hand, in double precision."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edgedistill.losses.several_teachers import mix_teachers, weigh_teachers
from edgedistill.losses.subspace_loss import distillation_loss
from edgedistill_deploy.images.sets import NO_LABEL

Floats = NDArray[np.float64]


def softmax(values: list[float], temperature: float = 1.0) -> Floats:
    powers = np.exp(np.array(values, dtype=np.float64) / temperature)
    found: Floats = powers / powers.sum()
    return found


ONE, OTHER = [2.0, 0.5, -1.0], [0.1, 1.2, 0.3]


def shares(labels: torch.Tensor) -> list[float]:
    found = weigh_teachers([torch.tensor([ONE]), torch.tensor([OTHER])], labels)
    return [float(each) for each in found[:, 0]]


def test_with_a_label_the_shares_are_the_probabilities_that_the_teachers_give_to_it() -> None:
    for label in range(3):
        mine, theirs = softmax(ONE)[label], softmax(OTHER)[label]
        assert shares(torch.tensor([label])) == pytest.approx([mine / (mine + theirs), theirs / (mine + theirs)])


def test_without_a_label_the_surer_teacher_has_the_larger_share() -> None:
    powers = [math.exp(float((p * np.log(p)).sum())) for p in (softmax(ONE), softmax(OTHER))]
    expected = [each / sum(powers) for each in powers]
    assert shares(torch.tensor([NO_LABEL])) == pytest.approx(expected)
    assert expected[0] > 0.5


def test_a_mixed_image_is_held_against_its_shares_and_the_answer_itself_for_the_rest() -> None:
    labels = torch.tensor([[0.0, 0.6, 0.1]])  # three tenths are of an image without a label
    errors = []
    for p in (softmax(ONE), softmax(OTHER)):
        wanted = np.array([0.0, 0.6, 0.1]) + 0.3 * p
        errors.append(-float((wanted * np.log(p)).sum()))
    powers = [math.exp(-each) for each in errors]
    assert shares(labels) == pytest.approx([each / sum(powers) for each in powers])


def test_the_mixture_is_the_weighed_mean_of_the_softened_probabilities() -> None:
    labels = torch.tensor([1])
    mixed = mix_teachers([torch.tensor([ONE]), torch.tensor([OTHER])], labels, 4.0)
    mine, theirs = shares(labels)
    expected = mine * softmax(ONE, 4.0) + theirs * softmax(OTHER, 4.0)
    assert softmax(mixed[0].tolist(), 4.0) == pytest.approx(expected)


def test_the_pull_on_a_student_is_the_weighed_mean_of_the_pulls_of_the_teachers() -> None:
    generator = torch.Generator().manual_seed(0)
    teachers = [3 * torch.randn(1, 5, generator=generator) for _ in range(3)]
    student = torch.randn(1, 5, generator=generator, requires_grad=True)
    labels = torch.tensor([2])

    def pull(logits: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(distillation_loss(student, logits, 4.0), student)[0]

    weights = weigh_teachers(teachers, labels)[:, 0]
    expected = sum(float(weight) * pull(each) for weight, each in zip(weights, teachers, strict=True))
    torch.testing.assert_close(pull(mix_teachers(teachers, labels, 4.0)), expected)


def test_a_teacher_that_is_surely_wrong_counts_for_nothing_and_breaks_nothing() -> None:
    sure = torch.tensor([[400.0, 0.0]])
    unsure = torch.tensor([[0.1, 0.0]])
    mixed = mix_teachers([sure, unsure], torch.tensor([1]), 4.0)
    torch.testing.assert_close(mixed.softmax(dim=1), unsure.div(4).log_softmax(dim=1).mul(4).softmax(dim=1))
    assert torch.isfinite(mix_teachers([sure, sure], torch.tensor([1]), 4.0)).all()
