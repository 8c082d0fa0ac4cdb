from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from edgedistill.losses.subspace_loss import SubspaceLoss
from edgedistill.networks.layers import as_map, capture
from edgedistill.subspaces.directions import Subspace, relevance_matrix, subspace_from
from edgedistill.subspaces.files import load_subspaces, save_subspaces
from edgedistill.subspaces.finding import Sampling, find_subspaces, gather_moments
from edgedistill.subspaces.moments import MomentAccumulator, Moments
from edgedistill_deploy.errors import BundleError, DataError, EdgeDistillError, UsageError
from reference import slow_subdistill

GOLDEN = Path(__file__).parents[2] / "data" / "prca_golden.npz"
LogitsWith: TypeAlias = Callable[[np.ndarray], np.ndarray]
METHODS = ("prca", "prca_indefinite", "pca", "gradient")


class SmallTeacher(nn.Module):
    """Two convolutions that a ReLU writes over, an unused layer, a head of five classes."""

    def __init__(self, head: int = 5) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.5)
        self.unused = nn.Conv2d(8, 4, 1)
        self.head = nn.Linear(8, head)

    def forward(self, images: Tensor) -> Tensor:
        features = self.act(self.norm(self.second(self.relu(self.first(images)))))
        self.unused(features)
        logits: Tensor = self.head(self.dropout(features.mean((2, 3))))
        return logits


def small_teacher() -> SmallTeacher:
    torch.manual_seed(0)
    return SmallTeacher().double()


def images(count: int = 6, size: int = 8, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((count, 3, size, size)))


def blocks(batch: Tensor, size: int) -> list[Tensor]:
    return [batch[start : start + size] for start in range(0, len(batch), size)]


def projector(basis: Tensor) -> np.ndarray:
    return (basis @ basis.T).numpy()


def golden_moments() -> Moments:
    golden = np.load(GOLDEN)
    accumulator = MomentAccumulator(16)
    rows = [torch.from_numpy(golden[name]).transpose(1, 2) for name in ("activation", "context")]
    for start in range(0, 200, 37):
        accumulator.update(*(each[start : start + 37].reshape(-1, 16) for each in rows))
    return accumulator.moments()


@pytest.mark.parametrize("field", ["mean", "activation_covariance", "context_moment", "cross_moment"])
def test_moments_match_the_golden_ones(field: str) -> None:
    np.testing.assert_allclose(getattr(golden_moments(), field), np.load(GOLDEN)[field], rtol=1e-9, atol=1e-12)


def test_the_relevance_matrix_matches_the_golden_one() -> None:
    np.testing.assert_allclose(
        relevance_matrix(golden_moments(), "layer"), np.load(GOLDEN)["matrix_prca"], rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rank", [1, 6, 16, 40])
def test_subspaces_match_the_golden_ones(method: str, rank: int) -> None:
    golden = np.load(GOLDEN)
    found = subspace_from(golden_moments(), rank, layer="layer", method=method)
    expected = golden[f"basis_{method}"][:, :rank]
    assert found.basis.shape == (16, min(rank, 16))
    assert found.sample_count == 1000
    np.testing.assert_allclose(projector(found.basis), expected @ expected.T, atol=1e-9)
    np.testing.assert_allclose(found.eigenvalues, golden[f"eigenvalues_{method}"], rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(found.variance, golden[f"variance_{method}"][:rank], rtol=1e-8)
    assert found.scale == pytest.approx(golden[f"variance_{method}"][:rank].sum(), rel=1e-9)


@pytest.mark.parametrize("method", [*METHODS, "random", "identity"])
def test_bases_are_orthonormal_with_the_largest_entry_of_each_column_positive(method: str) -> None:
    basis = subspace_from(golden_moments(), 7, layer="layer", method=method).basis
    np.testing.assert_allclose(basis.T @ basis, np.eye(7), atol=1e-12)
    assert bool((basis.gather(0, basis.abs().argmax(0, keepdim=True)) > 0).all())


def test_random_directions_follow_the_seed_and_identity_takes_the_first_channels() -> None:
    moments = golden_moments()
    first, again, other = (
        subspace_from(moments, 4, layer="layer", method="random", seed=seed).basis for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    identity = subspace_from(moments, 4, layer="layer", method="identity")
    assert torch.equal(identity.basis, torch.eye(16, 4).double())
    torch.testing.assert_close(identity.variance, moments.activation_covariance.diagonal()[:4])


def cell_samples(
    model: nn.Module, layer: str, batch: Tensor, classes: list[int], size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Cell averages of a layer's map and, by finite differences, the slope of the evidence when a cell is shifted."""
    activations, contexts = [], []
    for image in batch:
        output, logits_with = slow_subdistill.split_model(model, getattr(model, layer), image)

        def evidence_with(value: np.ndarray, run: LogitsWith = logits_with) -> float:
            return slow_subdistill.evidence(run(value)[classes])

        pooled = slow_subdistill.average_cells(output, size)
        for i, rows in enumerate(slow_subdistill.cells(output.shape[2], size[0])):
            for j, columns in enumerate(slow_subdistill.cells(output.shape[3], size[1])):
                activations.append(pooled[0, :, i, j])
                contexts.append(slow_subdistill.context_of_cell(evidence_with, output, rows, columns))
    return np.array(activations), np.array(contexts)


@pytest.mark.parametrize("layer", ["first", "second", "norm"])
@pytest.mark.parametrize("size", [(4, 4), (3, 3), (2, 1), (1, 1)])
def test_moments_are_those_of_cell_averages_and_of_shifts_of_whole_cells(layer: str, size: tuple[int, int]) -> None:
    model, batch, classes = small_teacher().eval(), images(3), [0, 2, 4]
    activation, context = cell_samples(model, layer, batch, classes, size)
    expected = slow_subdistill.moments(activation, context)
    subspace = find_subspaces(
        model, classes, [batch], {layer: 99}, map_sizes={layer: size}, method="gradient", positions=None
    )[layer]
    np.testing.assert_allclose(subspace.mean, expected["mean"], rtol=1e-9, atol=1e-12)
    found = (subspace.basis * subspace.eigenvalues) @ subspace.basis.T
    np.testing.assert_allclose(found, expected["context_moment"], atol=1e-6 * expected["context_moment"].trace())
    assert subspace.sample_count == 3 * size[0] * size[1]


def test_the_whole_method_matches_the_slow_one_position_by_position() -> None:
    model, batch, classes = small_teacher().eval(), images(3), [3, 1]
    activation, context = cell_samples(model, "second", batch, classes, (4, 4))
    matrix = slow_subdistill.relevance_matrix(activation, context)
    expected = np.linalg.eigh(matrix)[1][:, ::-1][:, :3]
    found = find_subspaces(model, classes, blocks(batch, 2), {"second": 3}, positions=None)["second"]
    np.testing.assert_allclose(projector(found.basis), expected @ expected.T, atol=1e-5)


def test_a_map_size_above_the_layers_own_changes_nothing() -> None:
    model, batch = small_teacher(), images()
    plain = find_subspaces(model, [0, 1], [batch], {"norm": 3})["norm"]
    larger = find_subspaces(model, [0, 1], [batch], {"norm": 3}, map_sizes={"norm": (9, 4)})["norm"]
    assert torch.equal(plain.basis, larger.basis)


@pytest.mark.parametrize("size", [(4, 4), (3, 3), (2, 4), (1, 1)])
@pytest.mark.parametrize("width", [3, 8, 20])
def test_a_silent_student_costs_one_over_the_images_of_the_subspace(size: tuple[int, int], width: int) -> None:
    model, batch = small_teacher().eval(), images(8)
    subspace = find_subspaces(
        model, [0, 1, 2], blocks(batch, 3), {"norm": width}, map_sizes={"norm": size}, positions=None
    )
    with torch.no_grad(), capture(model, ["norm"]) as outputs:
        model(batch)
    loss = SubspaceLoss(subspace["norm"], width)
    teacher_map = as_map(outputs["norm"], model, "norm").float()
    assert loss(torch.zeros(8, width, *size), teacher_map).item() == pytest.approx(1.0, rel=1e-5)


@given(st.permutations(range(6)), st.integers(1, 6), st.sampled_from([None, 1, 5, 20]), st.integers(0, 3))
@settings(max_examples=15, deadline=None)
def test_neither_order_nor_batch_size_matters(
    order: list[int], batch_size: int, positions: int | None, seed: int
) -> None:
    model, batch = small_teacher(), images()
    ranks = {"first": 3, "norm": 4}
    one, other = (
        find_subspaces(model, [0, 1, 3], batches, ranks, positions=positions, seed=seed)
        for batches in ([batch], blocks(batch[order], batch_size))
    )
    for name in ranks:
        torch.testing.assert_close(one[name].mean, other[name].mean, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(one[name].eigenvalues, other[name].eigenvalues, rtol=1e-7, atol=1e-12)
        np.testing.assert_allclose(projector(one[name].basis), projector(other[name].basis), atol=1e-6)


def test_every_image_gets_its_own_positions_from_the_seed() -> None:
    model, batch = small_teacher(), images()
    first, again, other = (
        find_subspaces(model, [0, 1], [batch], {"first": 3}, positions=2, seed=seed)["first"] for seed in (0, 0, 1)
    )
    assert torch.equal(first.basis, again.basis)
    assert first.sample_count == 12
    assert not torch.allclose(first.mean, other.mean)


def test_positions_are_drawn_without_replacement_and_anew_for_each_image() -> None:
    """A teacher whose map names its positions shows which of them were drawn."""
    places = torch.eye(16).double().reshape(16, 4, 4)

    class Naming(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.name = nn.Identity()

        def forward(self, values: Tensor) -> Tensor:
            named = self.name(places + 0 * values.mean(1, keepdim=True))
            sums: Tensor = (named * values.mean(1, keepdim=True)).sum((2, 3))
            return sums

    def drawn(batch: Tensor, positions: int) -> Tensor:
        moments = gather_moments(Naming(), [0, 1], [batch], ["name"], Sampling(positions=positions))["name"]
        return moments.mean * moments.count

    batch = images(40, size=4)
    each = torch.stack([drawn(image[None], 5) for image in batch])
    assert {tuple(sorted(set(counts.round().tolist()))) for counts in each} == {(0.0, 1.0)}
    assert len({tuple(counts.round().tolist()) for counts in each}) > 30
    torch.testing.assert_close(each.sum(0), drawn(batch, 5))
    # All positions are as likely: 200 draws of 16.
    assert each.sum(0).min() > 2


def test_one_pass_serves_all_layers() -> None:
    model, passes = small_teacher(), []
    model.register_forward_hook(lambda *_: passes.append("forward"))
    model.head.register_full_backward_hook(lambda *_: passes.append("backward"))
    find_subspaces(model, [0, 1], blocks(images(), 3), {"first": 3, "second": 3, "norm": 4})
    assert passes == ["forward", "backward"] * 2


def test_a_teacher_in_half_precision_gives_subspaces() -> None:
    model = small_teacher()
    plain = find_subspaces(model, [0, 1], [images(40)], {"norm": 3})["norm"]
    half = find_subspaces(model.bfloat16(), [0, 1], [images(40).bfloat16()], {"norm": 3})["norm"]
    assert half.scale == pytest.approx(plain.scale, rel=0.1)


def test_variance_that_is_but_rounding_is_none() -> None:
    accumulator = MomentAccumulator(3)
    constant = torch.full((1000, 3), 0.1)
    jitter = torch.randint(0, 2, constant.shape, generator=torch.Generator().manual_seed(0))
    values = torch.where(jitter.bool(), torch.nextafter(constant, torch.ones(())), constant)
    accumulator.update(values, torch.randn(1000, 3))
    with pytest.raises(EdgeDistillError, match="'flat' has no variance"):
        subspace_from(accumulator.moments(), 2, layer="flat")


@pytest.mark.parametrize("rank", [0, -1])
def test_a_rank_below_one_is_refused(rank: int) -> None:
    with pytest.raises(UsageError, match=f"rank of layer 'layer' must be at least 1, and {rank} was given"):
        subspace_from(golden_moments(), rank, layer="layer")


def test_sampled_moments_approach_those_of_all_positions() -> None:
    model, batch = small_teacher(), images(200)
    sampled = find_subspaces(model, [0, 1], blocks(batch, 50), {"first": 6}, positions=20)["first"]
    everything = find_subspaces(model, [0, 1], blocks(batch, 50), {"first": 6}, positions=None)["first"]
    torch.testing.assert_close(sampled.mean, everything.mean, rtol=0, atol=0.05)
    assert sampled.scale == pytest.approx(everything.scale, rel=0.05)


def test_float32_activations_far_from_zero_still_give_the_right_subspace() -> None:
    def teacher(offset: float) -> nn.Module:
        torch.manual_seed(0)
        convolution = nn.Conv2d(3, 6, 1)
        with torch.no_grad():
            convolution.bias.fill_(offset)  # type: ignore[union-attr]  # a bias was asked for
            convolution.weight.mul_(8).round_().div_(8)
        return nn.Sequential(convolution, nn.Flatten(2), nn.Linear(16, 1), nn.Flatten(), nn.Linear(6, 3))

    batch = (images(64, size=4) * 4).round().div(4).float()
    near, far = (
        find_subspaces(teacher(offset), [0], [batch], {"0": 3}, positions=None)["0"] for offset in (0.0, 4096.0)
    )
    np.testing.assert_allclose(projector(near.basis), projector(far.basis), atol=1e-6)
    assert near.scale == pytest.approx(far.scale, rel=1e-6)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("grad_enabled", [True, False])
def test_the_model_is_left_as_it_was_found(training: bool, frozen: bool, grad_enabled: bool) -> None:
    model = small_teacher().train(training)
    model.norm.eval()
    model.requires_grad_(not frozen)
    model.first.weight.requires_grad_(False)
    gradient = torch.ones_like(model.second.weight)
    model.second.weight.grad = gradient
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    asked = [parameter.requires_grad for parameter in model.parameters()]
    with torch.set_grad_enabled(grad_enabled):
        find_subspaces(model, [0, 1], [images()], {"first": 3, "second": 3})
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == asked
    assert all(parameter.grad is None for name, parameter in model.named_parameters() if name != "second.weight")
    assert torch.equal(gradient, torch.ones_like(gradient))
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_failure_leaves_the_model_as_it_was_found() -> None:
    model = small_teacher().train()
    with pytest.raises(RuntimeError, match="channels"):
        find_subspaces(model, [0, 1], [torch.zeros(2, 4, 8, 8).double()], {"first": 3})
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    find_subspaces(model, [0, 1], [images()], {"first": 3})


def test_progress_counts_images() -> None:
    counts: list[int] = []
    find_subspaces(
        small_teacher(),
        [0, 1],
        blocks(images(), 4),
        {"first": 3},
        progress=lambda done, total, note="": counts.append(done),
    )
    assert counts == [4, 6]


def test_no_layers_ask_for_no_pass() -> None:
    def never() -> Iterator[Tensor]:
        raise AssertionError("no image is needed")
        yield

    assert find_subspaces(small_teacher(), [0, 1], never(), {}) == {}


def test_a_single_class_uses_its_logit() -> None:
    model, batch = small_teacher(), images()
    found = find_subspaces(model, [2], [batch], {"act": 8}, method="gradient", positions=None)["act"]
    # The head averages 16 positions, so at every one of them the gradient is the head's row over 16.
    row = model.head.weight[2].detach() / 16
    assert found.eigenvalues[0].item() == pytest.approx(row.square().sum().item(), rel=1e-9)
    assert abs(found.basis[:, 0] @ row).item() == pytest.approx(row.norm().item(), rel=1e-9)


def constant_teacher() -> nn.Module:
    model = small_teacher()
    with torch.no_grad():
        model.norm.weight.zero_()
    return model


def broken_teacher() -> nn.Module:
    model = small_teacher()
    with torch.no_grad():
        model.norm.weight.fill_(float("nan"))
    return model


@pytest.mark.parametrize(
    ("make", "ranks", "options", "error", "message"),
    [
        (constant_teacher, {"norm": 3}, {}, EdgeDistillError, "'norm' has no variance inside its subspace of rank 8"),
        (broken_teacher, {"norm": 3}, {}, EdgeDistillError, "layer 'norm' are not all finite"),
        (small_teacher, {"unused": 3}, {}, EdgeDistillError, "context is 0 at layer 'unused', at every position"),
        (small_teacher, {"unused": 3}, {"method": "gradient"}, EdgeDistillError, "context is 0 at layer 'unused'"),
        (small_teacher, {"frist": 3}, {}, UsageError, "no layer 'frist'. Did you mean first"),
        (small_teacher, {"first": 0}, {}, UsageError, "rank of layer 'first' must be at least 1, and 0 was given"),
        (small_teacher, {"first": 3}, {"positions": 0}, UsageError, "positions must be at least 1, or None for all"),
        (
            small_teacher,
            {"first": 3},
            {"method": "pcra"},
            UsageError,
            "method cannot be 'pcra'. Did you mean pca, prca",
        ),
        (small_teacher, {"first": 3}, {"seed": -1}, UsageError, "seed must be a number of at least 0"),
    ],
)
def test_what_cannot_have_a_subspace_is_named(
    make: Callable[[], nn.Module], ranks: dict[str, int], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        find_subspaces(make(), [0, 1], [images()], ranks, **options)


def test_no_images_are_an_error() -> None:
    with pytest.raises(DataError, match="no images to find subspaces with"):
        find_subspaces(small_teacher(), [0, 1], [], {"first": 3})


def test_a_subspace_without_variance_is_an_error_even_where_the_layer_has_some() -> None:
    moments = Moments(
        count=10,
        mean=torch.zeros(2).double(),
        activation_covariance=torch.diag(torch.tensor([0.0, 1.0])).double(),
        context_moment=torch.diag(torch.tensor([1.0, 0.0])).double(),
        cross_moment=torch.zeros(2, 2).double(),
    )
    with pytest.raises(EdgeDistillError, match="'deep' has no variance inside its subspace of rank 1"):
        subspace_from(moments, 1, layer="deep", method="gradient")


def test_saved_subspaces_come_back_bit_for_bit(tmp_path: Path) -> None:
    found = find_subspaces(small_teacher(), [0, 1], [images()], {"first": 3, "norm": 12})
    save_subspaces(tmp_path / "subspaces.safetensors", found)
    read = load_subspaces(tmp_path / "subspaces.safetensors")
    assert set(read) == set(found)
    for name, subspace in found.items():
        assert read[name].layer == name
        assert read[name].sample_count == subspace.sample_count
        for field in ("mean", "basis", "eigenvalues", "variance"):
            assert torch.equal(getattr(read[name], field), getattr(subspace, field))
            assert getattr(read[name], field).dtype is torch.float64


def test_a_file_that_holds_no_subspaces_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.ones(2)}, path)
    with pytest.raises(BundleError, match="does not hold subspaces of the format edgedistill-subspaces-1"):
        load_subspaces(path)


@pytest.mark.parametrize("content", [None, b"", b"not safetensors at all"])
def test_a_damaged_or_missing_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "damaged.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BundleError, match=r"subspaces in .*damaged\.safetensors cannot be read"):
        load_subspaces(path)


def test_a_file_with_a_field_missing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "partial.safetensors"
    save_file({"first/mean": torch.ones(2)}, path, metadata={"format": "edgedistill-subspaces-1"})
    with pytest.raises(BundleError, match=r"partial\.safetensors cannot be read"):
        load_subspaces(path)


def test_subspaces_are_values() -> None:
    subspace = subspace_from(golden_moments(), 3, layer="layer")
    with pytest.raises(AttributeError):
        subspace.layer = "other"  # type: ignore[misc]  # that it is refused is the point
    assert isinstance(subspace, Subspace)


class Held:
    """Counts what the graph holds: the bytes of the tensors that are saved for the backward pass."""

    def __init__(self) -> None:
        self.bytes = 0

    def __call__(self, tensor: Tensor) -> Tensor:
        self.bytes += tensor.nbytes
        return tensor


def deep_teacher() -> nn.Module:
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Conv2d(3 if i == 0 else 8, 8, 3, padding=1), nn.ReLU()) for i in range(8)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


def test_nothing_is_held_for_the_layers_before_the_shallowest_one() -> None:
    held = []
    for layer in ("0", "6"):
        counted = Held()
        with torch.autograd.graph.saved_tensors_hooks(counted, lambda tensor: tensor):
            find_subspaces(deep_teacher(), [0, 1], [images(4).float()], {layer: 3})
        held.append(counted.bytes)
    assert held[1] < held[0] / 2


@pytest.mark.parametrize("room", [0, 1 << 40])
def test_images_that_are_large_for_the_memory_are_taken_in_parts_with_the_same_result(
    room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = deep_teacher(), torch.randn(6, 3, 250, 250, generator=torch.Generator().manual_seed(1))
    sizes: list[int] = []
    model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    whole = find_subspaces(model, [0, 1], [batch[:2], batch[2:4], batch[4:]], {"3": 3})["3"]
    assert sizes == [2, 2, 2]  # too few numbers to look at the memory
    sizes.clear()
    monkeypatch.setattr("edgedistill.subspaces._batching.free_bytes", lambda device: room)
    parts = find_subspaces(model, [0, 1], [batch], {"3": 3})["3"]
    assert sizes[0] == 1  # tried on one image
    assert sizes[1:] == ([1] * 6 if room == 0 else [6])
    np.testing.assert_allclose(projector(parts.basis), projector(whole.basis), atol=1e-5)
