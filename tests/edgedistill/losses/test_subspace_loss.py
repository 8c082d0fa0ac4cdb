import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes
from torch import Tensor, nn

from edgedistill.losses.subspace_loss import (
    EPSILON,
    LearnedRotation,
    ProcrustesRotation,
    SubspaceLoss,
    distillation_loss,
    mean_squared_distance,
    normalise_channels,
    pool_to,
    smaller_size,
)
from edgedistill.subspaces.directions import Subspace
from edgedistill_deploy.errors import UsageError
from reference import slow_subdistill

GOLDEN = np.load(Path(__file__).parents[2] / "data" / "loss_golden.npz")
CASES = ("student_smaller", "same", "student_larger")


def golden(name: str) -> Tensor:
    return torch.from_numpy(np.asarray(GOLDEN[name]))


def subspace(width: int = 16, rank: int = 6, seed: int = 0, variance: float = 2.0) -> Subspace:
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((width, width)))[0][:, :rank]
    return Subspace(
        layer="teacher.layer",
        mean=torch.from_numpy(rng.standard_normal(width)),
        basis=torch.from_numpy(basis.copy()),
        eigenvalues=torch.ones(width).double(),
        variance=torch.full((rank,), variance).double(),
        sample_count=100,
    )


def set_rotation(loss: SubspaceLoss, weight: Tensor) -> None:
    assert isinstance(loss.rotation, LearnedRotation)
    assert isinstance(loss.rotation.linear, nn.Linear)
    loss.rotation.linear.weight = weight


def golden_loss(student_normalisation: str) -> SubspaceLoss:
    made = Subspace(
        layer="layer",
        mean=golden("mean").double(),
        basis=golden("basis"),
        eigenvalues=torch.ones(16).double(),
        variance=(golden("variance_sum") / 6).repeat(6),
        sample_count=1,
    )
    loss = SubspaceLoss(made, 6, student_normalisation)
    set_rotation(loss, golden("rotation"))
    return loss


def maps(width: int, size: tuple[int, int], seed: int, count: int = 5) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((count, width, *size))).float()


def rotation(width: int, seed: int) -> Tensor:
    return torch.from_numpy(np.linalg.qr(np.random.default_rng(seed).standard_normal((width, width)))[0].copy()).float()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("student_normalisation", ["center", "standardize"])
def test_the_loss_matches_the_golden_one(case: str, student_normalisation: str) -> None:
    loss = golden_loss(student_normalisation)
    value = loss(golden(f"{case}.student"), golden(f"{case}.teacher"))
    assert value.item() == pytest.approx(golden(f"{case}.loss_{student_normalisation}_training").item(), rel=1e-5)
    torch.testing.assert_close(loss.running_mean, golden(f"{case}.running_mean_after_one_step"), rtol=1e-5, atol=1e-6)
    evaluated = loss.eval()(golden(f"{case}.student"), golden(f"{case}.teacher"))
    assert evaluated.item() == pytest.approx(golden(f"{case}.loss_evaluation").item(), rel=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_the_gradient_matches_the_golden_one(case: str) -> None:
    student = golden(f"{case}.student").requires_grad_()
    golden_loss("standardize")(student, golden(f"{case}.teacher")).backward()
    torch.testing.assert_close(student.grad, golden(f"{case}.gradient_standardize_training"), rtol=1e-4, atol=1e-8)


def test_tokens_without_their_class_token_match_the_golden_loss() -> None:
    tokens = golden("vit_teacher_cnn_student.teacher")
    grid = tokens[:, :, 1:].reshape(*tokens.shape[:2], 4, 4)
    value = golden_loss("standardize")(golden("vit_teacher_cnn_student.student"), grid)
    assert value.item() == pytest.approx(golden("vit_teacher_cnn_student.loss_standardize_training").item(), rel=1e-5)


def test_a_column_of_tokens_is_a_map_like_any_other() -> None:
    value = golden_loss("standardize")(golden("vit_both.student"), golden("vit_both.teacher"))
    assert value.item() == pytest.approx(golden("vit_both.loss_standardize_training").item(), rel=1e-5)


@given(st.integers(1, 12), st.integers(0, 50), st.floats(0.1, 50), st.booleans())
@settings(max_examples=25, deadline=None)
def test_the_loss_is_the_slow_one_at_any_rank(
    student_width: int, seed: int, variance: float, standardize: bool
) -> None:
    rank = min(8, student_width)
    made = subspace(8, rank, seed, variance)
    loss = SubspaceLoss(made, student_width, "standardize" if standardize else "center")
    turned = rotation(student_width, seed)[:rank]
    set_rotation(loss, turned)
    student, teacher = maps(student_width, (3, 2), seed), maps(8, (3, 2), seed + 1)
    expected = slow_subdistill.subspace_loss(
        student.double().numpy(),
        teacher.double().numpy(),
        made.mean.numpy(),
        made.basis.numpy(),
        made.scale,
        turned.double().numpy(),
        standardize,
    )
    assert loss(student, teacher).item() == pytest.approx(expected, rel=1e-4)


@given(st.integers(1, 12), st.integers(0, 50))
@settings(max_examples=15, deadline=None)
def test_in_evaluation_the_found_rotation_and_the_running_mean_count(student_width: int, seed: int) -> None:
    rank = min(8, student_width)
    made = subspace(8, rank, seed)
    loss = SubspaceLoss(made, student_width, alignment="procrustes")
    assert isinstance(loss.rotation, ProcrustesRotation)
    teacher, student = maps(8, (3, 2), seed + 1), maps(student_width, (3, 2), seed) + 2
    loss(student, teacher)
    target = (teacher.permute(0, 2, 3, 1).double() - made.mean) @ made.basis
    centred = student.permute(0, 2, 3, 1).double()
    left, _, right = np.linalg.svd(
        np.einsum("nhwk,nhwj->kj", target, centred - centred.mean((0, 1, 2))), full_matrices=False
    )
    other = maps(student_width, (3, 2), seed + 2)
    rotated = (other.permute(0, 2, 3, 1).double() - 0.1 * centred.mean((0, 1, 2))).numpy() @ (left @ right).T
    expected = ((rotated - target.numpy()) ** 2).sum(-1).mean() / made.scale
    assert loss.eval()(other, teacher).item() == pytest.approx(expected, rel=1e-3)


def test_the_rotation_is_that_of_a_running_average() -> None:
    alignment = ProcrustesRotation(3, 3)
    draws = [torch.randn(20, 3, generator=torch.Generator().manual_seed(seed)) for seed in range(10)]
    average = torch.zeros(3, 3)
    for student, target in itertools.pairwise(draws):
        alignment(student, target)
        average = 0.9 * average + 0.1 * target.T @ student / 20
    left, _, right = np.linalg.svd(average.double().numpy())
    np.testing.assert_allclose(alignment.weight, left @ right, atol=1e-4)


@pytest.mark.parametrize("alignment", ["learned", "procrustes"])
def test_a_student_that_is_not_finite_costs_a_number_that_is_not(alignment: str) -> None:
    loss = SubspaceLoss(subspace(), 6, alignment=alignment)
    value = loss(torch.full((5, 6, 4, 4), float("nan")), maps(16, (4, 4), 1))
    assert not torch.isfinite(value)


@given(st.tuples(st.integers(1, 9), st.integers(1, 9)), st.tuples(st.integers(1, 9), st.integers(1, 9)))
@settings(max_examples=25, deadline=None)
def test_maps_are_averaged_to_the_smaller_height_and_width(left: tuple[int, int], right: tuple[int, int]) -> None:
    first, second = maps(2, left, 0, 2), maps(3, right, 1, 2)
    size = (min(left[0], right[0]), min(left[1], right[1]))
    assert smaller_size(first.shape[2:], second.shape[2:]) == size
    for given_map in (first, second):
        found = pool_to(given_map, size)
        expected = slow_subdistill.average_cells(given_map.double().numpy(), size)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("alignment", ["learned", "procrustes"])
@pytest.mark.parametrize("student_width", [4, 6, 16, 23])
def test_a_student_of_any_width_that_says_nothing_costs_what_the_teacher_varies(
    alignment: str, student_width: int
) -> None:
    made = subspace(16, min(16, student_width))
    teacher = maps(16, (4, 4), 3)
    loss = SubspaceLoss(made, student_width, alignment=alignment)
    target = (teacher.permute(0, 2, 3, 1).double() - made.mean) @ made.basis
    expected = target.square().sum(-1).mean() / made.scale
    value = loss(torch.ones(5, student_width, 4, 4), teacher)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)


def measured_subspace(values: Tensor, rank: int) -> Subspace:
    """A subspace whose variances are those of these vectors (n, D), with eigenvalues of its own."""
    made = subspace(values.shape[1], rank)
    centred = (values.double() - values.double().mean(0)) @ made.basis
    return replace(
        made,
        mean=values.double().mean(0),
        variance=centred.square().mean(0),
        eigenvalues=torch.linspace(8, 0, values.shape[1]).double(),
    )


@pytest.mark.parametrize("direction_weights", ["variance", "equal", "relevance"])
@pytest.mark.parametrize("student_width", [4, 6, 23])
def test_each_direction_has_the_share_of_the_target_that_its_weight_says(
    direction_weights: str, student_width: int
) -> None:
    rank = min(16, student_width)
    teacher = maps(16, (4, 4), 3) * torch.linspace(0.1, 4, 16).view(1, -1, 1, 1)
    made = measured_subspace(teacher.permute(0, 2, 3, 1).flatten(0, 2), rank)
    loss = SubspaceLoss(made, student_width, direction_weights=direction_weights)
    shares = {"variance": made.variance, "equal": torch.ones(rank), "relevance": made.eigenvalues[:rank]}
    expected = shares[direction_weights] / shares[direction_weights].sum()
    found = loss.target(teacher, (4, 4)).double().square().mean((0, 1, 2))
    torch.testing.assert_close(found / found.sum(), expected.double(), rtol=1e-4, atol=1e-6)
    silent = loss(torch.ones(len(teacher), student_width, 4, 4), teacher)
    assert silent.item() == pytest.approx(1, rel=1e-4)


def test_a_direction_that_does_not_vary_is_not_blown_up() -> None:
    made = replace(subspace(), variance=torch.tensor([3.0, 2.0, 1.0, 1.0, 1.0, 0.0]).double())
    loss = SubspaceLoss(made, 6, direction_weights="equal")
    assert torch.isfinite(loss.basis).all()
    assert loss.basis.norm(dim=0).max() <= (1e6 / 3) ** 0.5 * 1.001


@pytest.mark.parametrize("shift", [0.0, 100.0])
def test_centring_ignores_a_constant_per_channel_but_not_the_scale(shift: float) -> None:
    student, teacher = maps(6, (4, 4), 0), maps(16, (4, 4), 1)
    losses = [SubspaceLoss(subspace(), 6)(each, teacher).item() for each in (student, student + shift, student * 3)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert losses[2] > 2 * losses[0]


def test_standardising_ignores_the_scale_of_every_channel() -> None:
    student, teacher = maps(6, (4, 4), 0), maps(16, (4, 4), 1)
    scales = torch.tensor([0.5, 1.0, 2.0, 3.0, 5.0, 8.0]).view(1, -1, 1, 1)
    losses = [SubspaceLoss(subspace(), 6, "standardize")(each, teacher).item() for each in (student, student * scales)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@given(st.integers(0, 100), st.integers(1, 8))
@settings(max_examples=15, deadline=None)
def test_with_the_best_rotation_the_students_own_rotation_is_free(seed: int, rank: int) -> None:
    made = subspace(8, rank, seed)
    student, teacher = maps(rank, (3, 3), seed), maps(8, (3, 3), seed + 1)
    turned = torch.einsum("ij,njhw->nihw", rotation(rank, seed + 2), student)
    losses = [SubspaceLoss(made, rank, alignment="procrustes")(each, teacher).item() for each in (student, turned)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@given(st.integers(0, 100), st.integers(1, 8))
@settings(max_examples=15, deadline=None)
def test_the_closed_form_rotation_is_scipys_and_beats_any_other(seed: int, rank: int) -> None:
    student, target = (torch.randn(40, rank, generator=torch.Generator().manual_seed(seed + k)) for k in (0, 1))
    alignment = ProcrustesRotation(rank, rank)
    rotated = student @ alignment(student, target).T
    best, _ = orthogonal_procrustes(student.double().numpy(), target.double().numpy())
    np.testing.assert_allclose(alignment.weight.T, best, atol=1e-4)
    error = (rotated - target).square().sum()
    for other in range(5):
        assert error <= (student @ rotation(rank, other) - target).square().sum() * (1 + 1e-5)


def test_the_closed_form_is_refreshed_every_few_steps_and_rests_in_evaluation() -> None:
    alignment = ProcrustesRotation(3, 3)
    student = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    weights = []
    for step in range(17):
        alignment(student, student @ rotation(3, step))
        weights.append(alignment.weight)
    changed = [step for step in range(1, 17) if not torch.equal(weights[step], weights[step - 1])]
    assert changed == [8, 16]
    before = {name: tensor.clone() for name, tensor in alignment.state_dict().items()}
    alignment.eval()(student, student)
    assert all(torch.equal(tensor, before[name]) for name, tensor in alignment.state_dict().items())


@pytest.mark.parametrize("alignment", ["learned", "procrustes"])
@pytest.mark.parametrize(("width", "student_width"), [(8, 4), (8, 8), (6, 9)])
def test_a_free_student_reaches_the_teacher(alignment: str, width: int, student_width: int) -> None:
    made = subspace(width, min(width, student_width), variance=1.0)
    teacher = maps(width, (3, 3), 0)
    student = nn.Parameter(maps(student_width, (3, 3), 1))
    loss = SubspaceLoss(made, student_width, alignment=alignment)
    with torch.no_grad():
        # Centred teacher features: a constant is what centring takes away from the student.
        loss.mean.copy_(teacher.mean((0, 2, 3), keepdim=True))
    optimizer = torch.optim.Adam([student, *loss.parameters()], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        value = loss(student, teacher)
        value.backward()
        optimizer.step()
    assert loss(student, teacher).item() < 1e-3


@pytest.mark.parametrize(("student_width", "rank"), [(5, 5), (9, 4), (4, 9)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_a_learned_rotation_starts_as_the_identity_and_stays_orthogonal(
    student_width: int, rank: int, weight_decay: float
) -> None:
    alignment = LearnedRotation(student_width, rank)
    torch.testing.assert_close(alignment.linear.weight, torch.eye(rank, student_width))
    optimizer = torch.optim.AdamW(alignment.parameters(), lr=0.1, weight_decay=weight_decay)
    student, target = maps(student_width, (1, 1), 0, 30).flatten(1), maps(rank, (1, 1), 1, 30).flatten(1)
    for _ in range(50):
        optimizer.zero_grad()
        (student @ alignment(student, target).T - target).square().mean().backward()
        optimizer.step()
    weight = alignment(student, target).detach()
    gram = weight @ weight.T if rank <= student_width else weight.T @ weight
    torch.testing.assert_close(gram, torch.eye(min(rank, student_width)), rtol=0, atol=1e-5)
    assert not torch.allclose(weight, torch.eye(rank, student_width), atol=0.1)


@pytest.mark.parametrize("standardize", [False, True])
def test_channels_are_normalised_as_batch_norm_does_it(standardize: bool) -> None:
    values = (3 * maps(5, (1, 1), 0, 40).flatten(1).double() + 7).requires_grad_()
    normalised, mean = normalise_channels(values, standardize)
    torch.testing.assert_close(mean, values.detach().mean(0))
    assert not mean.requires_grad
    expected = (
        torch.nn.functional.batch_norm(values, None, None, training=True, eps=EPSILON)
        if standardize
        else values - values.mean(0)
    )
    torch.testing.assert_close(normalised, expected)
    assert torch.autograd.gradcheck(lambda each: normalise_channels(each, standardize)[0], values)


@pytest.mark.parametrize("rank", [3, 5, 8])
def test_the_distance_and_its_gradients_are_those_of_its_formula(rank: int) -> None:
    student = maps(5, (1, 1), 0, 20).flatten(1).double().requires_grad_()
    weight = maps(rank, (1, 1), 1, 5).flatten(1).double().T.contiguous().requires_grad_()
    target = maps(rank, (1, 1), 2, 20).flatten(1).double()
    expected = (student @ weight.T - target).square().sum(1).mean()
    torch.testing.assert_close(mean_squared_distance(student, weight, target), expected)
    assert torch.autograd.gradcheck(mean_squared_distance, (student, weight, target))


def test_making_a_loss_draws_no_random_numbers() -> None:
    state = torch.random.get_rng_state()
    SubspaceLoss(subspace(), 6)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_teacher_gets_no_gradient() -> None:
    teacher = maps(16, (4, 4), 0).requires_grad_()
    student = maps(6, (4, 4), 1).requires_grad_()
    SubspaceLoss(subspace(), 6)(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad is not None


@pytest.mark.parametrize("alignment", ["learned", "procrustes"])
def test_everything_is_in_the_state(alignment: str) -> None:
    loss, other = (SubspaceLoss(subspace(seed=seed), 6, alignment=alignment) for seed in (0, 1))
    optimizer = torch.optim.Adam([*loss.parameters(), nn.Parameter(torch.ones(1))], lr=0.1)
    student, teacher = maps(6, (4, 4), 0), maps(16, (4, 4), 1)
    for _ in range(3):
        optimizer.zero_grad()
        loss(student.clone().requires_grad_(), teacher).backward()
        optimizer.step()
    other.load_state_dict(loss.state_dict())
    assert loss.eval()(student, teacher) == other.eval()(student, teacher)
    assert loss.train()(student, teacher) == other.train()(student, teacher)


@pytest.mark.parametrize(
    ("rank", "student_width", "options", "message"),
    [
        (6, 7, {}, r"layer 'teacher.layer' has rank 6, and a student of 7 channels needs 7"),
        (6, 5, {}, r"has rank 6, and a student of 5 channels needs 5"),
        (6, 20, {}, r"has rank 6, and a student of 20 channels needs 16"),
        (6, 6, {"student_normalisation": "centre"}, "student_normalisation cannot be 'centre'. Did you mean center"),
        (6, 6, {"alignment": "fixed"}, "alignment cannot be 'fixed'. Known: learned, procrustes"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    rank: int, student_width: int, options: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        SubspaceLoss(subspace(16, rank), student_width, **options)


def test_the_logit_loss_matches_the_golden_one() -> None:
    value = distillation_loss(golden("kd.student_logits"), golden("kd.teacher_logits"))
    assert value.item() == pytest.approx(golden("kd.loss_temperature_4").item(), rel=1e-5)


@given(st.integers(1, 6), st.floats(0.5, 20), st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_the_logit_loss_is_a_divergence(classes: int, temperature: float, seed: int) -> None:
    student, teacher = maps(classes, (1, 1), seed).flatten(1), maps(classes, (1, 1), seed + 1).flatten(1)
    assert distillation_loss(teacher, teacher, temperature).item() == pytest.approx(0, abs=1e-5)
    assert distillation_loss(student, teacher, temperature).item() > 0


def test_a_single_class_is_told_apart_by_its_sigmoid() -> None:
    student, teacher = torch.tensor([[0.3], [-1.0]]), torch.tensor([[2.0], [0.5]])
    p, q = torch.sigmoid(teacher / 4), torch.sigmoid(student / 4)
    expected = 16 * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()
    assert distillation_loss(student, teacher).item() == pytest.approx(expected.item(), rel=1e-4)
