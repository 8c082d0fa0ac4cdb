import importlib.util
import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgedistill.data.sampling import sample_images
from edgedistill.data.splits import SubtaskImages
from edgedistill.inspection.accuracy import Tally, tally
from edgedistill.inspection.config import InspectConfig
from edgedistill.inspection.inspecting import inspect_subspaces
from edgedistill.inspection.picture import write_inspection
from edgedistill.inspection.projecting import project, run_midway
from edgedistill.inspection.records import Inspection
from edgedistill.inspection.suggesting import (
    doubling_ranks,
    effective_rank,
    next_rank,
    plain_student,
    stable_rank,
    suggested_width,
)
from edgedistill.models.plain import PlainNet
from edgedistill.models.teacher import Teacher
from edgedistill.networks.layers import capture
from edgedistill.subspaces.directions import Subspace
from edgedistill_deploy.errors import EdgeDistillError, MissingDependencyError, UsageError
from edgedistill_deploy.images.arrays import ArrayImages
from edgedistill_deploy.images.preprocess import Preprocess
from reference.slow_subdistill import split_model
from reference.small_networks import small_network

NAMES = ("a", "b", "c", "d", "e")
KEPT = ("b", "c", "e")
SIZE = 16


# --- projecting ------------------------------------------------------------------------------------------------------


def some_subspace(width: int, layer: str = "layer", seed: int = 0) -> Subspace:
    draws = np.random.default_rng(seed).standard_normal((width, width + 1))
    basis, _ = np.linalg.qr(draws[:, :width])
    ones = torch.ones(width, dtype=torch.float64)
    return Subspace(
        layer=layer,
        mean=torch.from_numpy(draws[:, width].copy()),
        basis=torch.from_numpy(basis),
        eigenvalues=ones,
        variance=ones,
        sample_count=1,
    )


def projected_vector(vector: np.ndarray, subspace: Subspace, rank: int) -> np.ndarray:
    mean, basis = subspace.mean.numpy(), subspace.basis.numpy()
    result = mean.copy()
    for k in range(rank):
        result = result + basis[:, k] * float(np.dot(basis[:, k], vector - mean))
    return result


def projected_slowly(values: np.ndarray, subspace: Subspace, rank: int, axis: int, prefix: int) -> np.ndarray:
    """One position at a time; `axis` is that of the channels, and the first `prefix` tokens are left alone."""
    moved = np.moveaxis(values, axis, -1).copy()
    for index in np.ndindex(*moved.shape[:-1]):
        if not (prefix and index[1] < prefix):
            moved[index] = projected_vector(moved[index], subspace, rank)
    return np.moveaxis(moved, -1, axis)


@pytest.mark.parametrize(
    ("family", "layer", "axis", "prefix"),
    [
        ("resnet", "layer2", 1, 0),
        ("convnext", "stages.1", 1, 0),
        ("swin", "layers.1", -1, 0),
        ("vit", "blocks.2", -1, 1),
        ("vit-registers", "blocks.1", -1, 5),
        ("deit", "blocks.1", -1, 2),
        ("resnet", "fc", -1, 0),
    ],
)
def test_every_format_is_projected_along_its_channels(family: str, layer: str, axis: int, prefix: int) -> None:
    model = small_network(family).eval()
    with torch.no_grad(), capture(model, [layer]) as outputs:
        model(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    output = outputs[layer]
    assert isinstance(output, Tensor)
    subspace = some_subspace(output.shape[axis])
    result = project(output, subspace, 3, model, layer)
    assert isinstance(result, Tensor)
    np.testing.assert_allclose(
        result, projected_slowly(output.numpy(), subspace, 3, axis, prefix), rtol=1e-3, atol=1e-4
    )


def test_the_rest_of_a_tuple_stays() -> None:
    first, second = torch.randn(2, 4, 3, 3), torch.randn(2)
    result = project((first, second), some_subspace(4), 2, nn.Identity(), "layer")
    assert isinstance(result, tuple)
    assert result[1] is second
    np.testing.assert_allclose(
        result[0], projected_slowly(first.numpy(), some_subspace(4), 2, 1, 0), rtol=1e-4, atol=1e-5
    )


def test_all_directions_are_the_identity() -> None:
    values = torch.randn(2, 6, 3, 3, dtype=torch.float64)
    result = project(values, some_subspace(6), 6, nn.Identity(), "layer")
    assert isinstance(result, Tensor)
    np.testing.assert_allclose(result, values, rtol=1e-12, atol=1e-12)


def test_what_is_no_map_is_refused() -> None:
    with pytest.raises(EdgeDistillError, match=r"'layer' \(shape \(4,\)\) cannot be read as a map"):
        project(torch.zeros(4), some_subspace(4), 2, nn.Identity(), "layer")


# --- running on from the middle --------------------------------------------------------------------------------------


class Writing(nn.Module):
    """Writes over a layer's input, which it uses again: what comes after `second` depends on what it did inside."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.second = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1))
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(4, 5)

    def forward(self, images: Tensor) -> Tensor:
        before = self.first(images)
        after = self.second(before)
        logits: Tensor = self.head(self.act(before + self.act(after)).mean((2, 3)))
        return logits


@pytest.mark.parametrize(
    ("family", "layer"),
    [
        ("resnet", "layer1"),
        ("resnet", "layer2.0.conv1"),
        ("mobilenetv4", "blocks.2"),
        ("efficientnet", "blocks.3.1"),
        ("convnext", "stages.2.blocks.0"),
        ("vit", "blocks.3"),
        ("deit", "blocks.2.mlp.fc1"),
        ("swin", "layers.2"),
        ("densenet", "features.denseblock2.denselayer1"),
        ("mambaout", "stages.1"),
    ],
)
def test_running_on_gives_what_the_whole_network_gives(family: str, layer: str) -> None:
    model = small_network(family).eval()
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    output, logits_with = split_model(model, model.get_submodule(layer), images[0])
    changed = output + np.random.default_rng(0).standard_normal(output.shape)
    with torch.no_grad():
        midway = run_midway(model, layer, images)
        resumed = midway.resume(torch.from_numpy(changed).float())
    np.testing.assert_allclose(midway.logits[0], logits_with(output.astype(np.float32)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(resumed[0], logits_with(changed.astype(np.float32)), rtol=1e-4, atol=1e-5)
    assert not any("forward" in module.__dict__ or module._forward_hooks for module in model.modules())


def test_a_network_that_writes_over_its_inputs_is_run_whole() -> None:
    torch.manual_seed(0)
    model = Writing().eval()
    images = torch.randn(1, 3, 8, 8)
    output, logits_with = split_model(model, model.second, images[0])
    with torch.no_grad():
        midway = run_midway(model, "second", images)
        resumed = midway.resume(torch.from_numpy(2 * output).float())
    np.testing.assert_allclose(resumed[0], logits_with((2 * output).astype(np.float32)), rtol=1e-5, atol=1e-6)


def test_what_comes_before_the_layer_runs_once() -> None:
    model = small_network("resnet").eval()
    calls: Counter[str] = Counter()
    for name in ("conv1", "layer1.0.conv1", "layer3.0.conv1"):
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: calls.update([name]))
    with torch.no_grad():
        midway = run_midway(model, "layer2", torch.randn(1, 3, 64, 64))
        before = dict(calls)
        for _ in range(3):
            midway.resume(midway.output)
    # `conv1` is replayed, which its hook sees; inside layer1 nothing ran again.
    assert calls["layer1.0.conv1"] == before["layer1.0.conv1"] == 1
    assert calls["layer3.0.conv1"] == before["layer3.0.conv1"] + 3


def test_a_failure_midway_leaves_the_network_as_it_was() -> None:
    model = small_network("resnet").eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        midway = run_midway(model, "layer2", images)
        with pytest.raises(RuntimeError, match="channels"):
            midway.resume(torch.zeros(1, 5, 8, 8))
        np.testing.assert_allclose(model(images), midway.logits, rtol=1e-5, atol=1e-6)


# --- suggesting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variances", "entropy", "count"),
    [
        ([2.0] * 8, 8.0, 8),
        ([5.0, 0.0, 0.0], 1.0, 1),
        ([1.0, 1.0, -1e-18], 2.0, 2),
        ([0.5, 0.25, 0.25], 2**1.5, 3),
        ([98.9, 0.2, 0.9], math.exp(-sum(p * math.log(p) for p in (0.989, 0.002, 0.009))), 2),
    ],
)
def test_effective_rank_of_known_spectra(variances: list[float], entropy: float, count: int) -> None:
    rank = effective_rank(variances)
    assert rank.entropy == pytest.approx(entropy, rel=1e-12)
    assert rank.directions_99 == count


@pytest.mark.parametrize(
    ("width", "ranks"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8)), (9, (1, 2, 4, 8, 9))]
)
def test_ranks_double_up_to_the_width(width: int, ranks: tuple[int, ...]) -> None:
    assert doubling_ranks(width) == ranks


@pytest.mark.parametrize(
    ("met", "stable", "width"),
    [
        ({1: False, 2: True, 4: True}, 2, 4),
        ({1: True, 2: False, 4: True, 8: True}, 4, 4),
        ({1: True, 9: True, 5: False}, 9, 12),
        ({1: True}, 1, 4),
        ({1: True, 2: False}, None, None),
        ({}, None, None),
    ],
)
def test_a_width_counts_only_if_all_larger_ones_do(met: dict[int, bool], stable: int | None, width: int | None) -> None:
    assert stable_rank(met) == stable
    assert suggested_width(met) == width


@settings(max_examples=60, deadline=None)
@given(width=st.integers(1, 600), data=st.data())
def test_bisection_finds_the_width_in_few_steps(width: int, data: st.DataObject) -> None:
    threshold = data.draw(st.integers(1, width))
    met = {k: k >= threshold for k in doubling_ranks(width)}
    steps = 0
    while (k := next_rank(met)) is not None:
        assert k not in met
        assert 1 <= k <= width
        met[k] = k >= threshold
        steps += 1
    assert suggested_width(met) == math.ceil(threshold / 4) * 4
    assert steps <= max(0, math.ceil(math.log2(width)))


def test_nothing_is_bisected_where_the_target_is_missed() -> None:
    assert next_rank({1: False, 8: False}) is None


@pytest.mark.parametrize(
    ("widths", "name"), [((12, 16, 8), "plain:12-16-8"), ((12, None, 8), None), ((12,), None), ((), None)]
)
def test_a_plain_student_has_a_stage_a_layer(widths: tuple[int | None, ...], name: str | None) -> None:
    assert plain_student(widths) == name


def test_tallies_count_against_labels_and_teacher() -> None:
    labels, before, after = torch.tensor([[0, 0, 1, 1, 2], [0, 1, 1, 0, 0], [0, 0, 0, 1, 0]])
    first = tally(after, before, labels)
    assert first == Tally(size=5, right=3, agreeing=2, lost=1, gained=2)
    assert first + first == Tally(size=10, right=6, agreeing=4, lost=2, gained=4)
    assert Tally(size=100, right=99).meets(0.99, Tally(size=100, right=100))
    assert not Tally(size=100, right=98).meets(0.99, Tally(size=100, right=100))


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_settings", "message"),
    [
        ({"methods": ("prcaa",)}, r"method cannot be 'prcaa'. Did you mean prca"),
        ({"methods": ()}, "No method was given; name at least one, such as prca"),
        ({"ks": (4, 0)}, "k must be a number of at least 1, and 0 was given"),
        ({"target": 1.5}, "target is the part of the teacher's accuracy to keep.*1.5 was given"),
        ({"images": 0}, "images must be a number of at least 1"),
        ({"positions": -1}, "positions must be a number of at least 0"),
        ({"compute": "tpu"}, "compute cannot be 'tpu'"),
    ],
)
def test_wrong_settings_are_refused(given_settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        InspectConfig(**given_settings)  # type: ignore[arg-type]


# --- the inspection --------------------------------------------------------------------------------------------------


def random_images(count: int, seed: int) -> ArrayImages:
    draws = np.random.default_rng(seed)
    pixels = draws.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8).repeat(4, 1).repeat(4, 2)
    return ArrayImages(
        class_names=KEPT,
        labels=draws.integers(0, len(KEPT), count).astype(np.int64),
        images=pixels,
        rows=np.arange(count),
    )


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    torch.manual_seed(0)
    model = PlainNet((6, 8), len(NAMES))
    pixels = normalised(random_images(200, seed=4))
    assert isinstance(model.head, nn.Linear)
    with torch.no_grad():
        for _ in range(50):
            model(pixels)  # statistics for the batch norms
        # Without this a network of random weights gives one answer to everything.
        model.head.bias.sub_(model.eval()(pixels).mean(0))
    return Teacher(
        name="small",
        model=model,
        class_names=NAMES,
        preprocess=Preprocess(size=(SIZE, SIZE)),
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )


def normalised(images: ArrayImages) -> Tensor:
    pixels = torch.from_numpy(images.images).float().permute(0, 3, 1, 2) / 255
    return (pixels - 0.5) / 0.25


def answers(teacher: Teacher, images: ArrayImages) -> np.ndarray:
    with torch.no_grad():
        logits = teacher.model(normalised(images))[:, [NAMES.index(name) for name in KEPT]]
    return np.asarray(logits.argmax(1))


@pytest.fixture(scope="module")
def images(teacher: Teacher) -> SubtaskImages:
    """Labels are the teacher's own answers on five images of six, so that it is right often, and not always."""
    validation = random_images(60, seed=2)
    labels = np.where(np.arange(60) % 6 == 0, validation.labels, answers(teacher, validation))
    return SubtaskImages(train=random_images(40, seed=1), validation=replace(validation, labels=labels), test=None)


def inspected(teacher: Teacher, images: SubtaskImages, student: str = "", **given_settings: object) -> Inspection:
    config = InspectConfig(compute="cpu", **{"positions": 0, **given_settings})  # type: ignore[arg-type]
    return inspect_subspaces(teacher, teacher.subtask(KEPT, name="kept"), images, config, student=student)


@pytest.fixture(scope="module")
def found(teacher: Teacher, images: SubtaskImages) -> Inspection:
    return inspected(teacher, images, batch_size=7)


def positions_of(teacher: Teacher, images: ArrayImages, layer: str) -> np.ndarray:
    """All positions of a layer's maps, (n, D)."""
    with torch.no_grad(), capture(teacher.model, [layer]) as outputs:
        teacher.model(normalised(images))
    output = outputs[layer]
    assert isinstance(output, Tensor)
    return output.double().numpy().transpose(0, 2, 3, 1).reshape(-1, output.shape[1])


def test_what_was_looked_at_is_recorded(found: Inspection, teacher: Teacher, images: SubtaskImages) -> None:
    assert isinstance(images.validation, ArrayImages)
    share = (answers(teacher, images.validation) == images.validation.labels).mean()
    assert found.teacher_accuracy == pytest.approx(share)
    assert found.teacher_interval[0] < found.teacher_accuracy < found.teacher_interval[1]
    assert (found.training_count, found.validation_count) == (40, 60)
    assert [(each.layer, each.width, each.map_size) for each in found.layers] == [
        ("stages.0", 6, (8, 8)),
        ("stages.1", 8, (4, 4)),
    ]


def test_spectra_are_numpys(found: Inspection, teacher: Teacher, images: SubtaskImages) -> None:
    assert isinstance(images.train, ArrayImages)
    for layer in found.layers:
        samples = positions_of(teacher, images.train, layer.layer)
        expected = np.linalg.eigvalsh(np.cov(samples.T, bias=True))[::-1]
        np.testing.assert_allclose(layer.eigenvalues["pca"], expected, rtol=1e-5, atol=1e-9)
        shares = expected / expected.sum()
        assert layer.effective_rank.entropy == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-5)
        assert set(layer.eigenvalues) == {"prca", "pca", "gradient"}


def test_accuracy_at_k_is_that_of_a_projection_by_hand(
    found: Inspection, teacher: Teacher, images: SubtaskImages
) -> None:
    assert isinstance(images.train, ArrayImages)
    assert isinstance(images.validation, ArrayImages)
    columns = [NAMES.index(name) for name in KEPT]
    for layer in found.layers:
        samples = positions_of(teacher, images.train, layer.layer)
        mean = samples.mean(0)
        directions = np.linalg.eigh(np.cov(samples.T, bias=True))[1][:, ::-1]
        for point in layer.accuracy_at_k["pca"]:
            kept = directions[:, : point.k] @ directions[:, : point.k].T
            right = 0
            for image, label in zip(normalised(images.validation), images.validation.labels, strict=True):
                output, logits_with = split_model(teacher.model, teacher.model.get_submodule(layer.layer), image)
                moved = np.einsum("de,nehw->ndhw", kept, output - mean[:, None, None]) + mean[:, None, None]
                right += int(logits_with(moved.astype(np.float32))[columns].argmax() == label)
            assert point.accuracy == pytest.approx(right / 60), (layer.layer, point.k)


def test_all_directions_give_the_teachers_own_answers(found: Inspection) -> None:
    for layer in found.layers:
        for points in layer.accuracy_at_k.values():
            assert points[-1].k == layer.width
            assert points[-1].accuracy == found.teacher_accuracy
            assert points[-1].agreement == 1.0
            assert points[-1].drop_interval[0] < 0 < points[-1].drop_interval[1]


def test_the_result_does_not_hang_on_the_batch_size(found: Inspection, teacher: Teacher, images: SubtaskImages) -> None:
    again = inspected(teacher, images, batch_size=60)
    for one, other in zip(found.layers, again.layers, strict=True):
        assert one.suggested_width == other.suggested_width
        assert one.accuracy_at_k == other.accuracy_at_k


def test_the_teacher_is_left_as_it_was(teacher: Teacher, images: SubtaskImages) -> None:
    teacher.model.train()
    before = {name: value.clone() for name, value in teacher.model.state_dict().items()}
    inspected(teacher, images, methods=("prca",), ks=(2,))
    assert all(module.training for module in teacher.model.modules())
    assert all(parameter.requires_grad for parameter in teacher.model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.model.state_dict().items())
    teacher.model.eval()


@pytest.mark.parametrize("family", ["vit-registers", "swin", "mobilenetv4"])
def test_any_family_can_be_inspected(family: str, teacher: Teacher, images: SubtaskImages) -> None:
    model = small_network(family, classes=len(NAMES)).eval()
    other = replace(teacher, model=model, preprocess=Preprocess(size=(64, 64)))
    few = replace(images, train=images.train.select(range(6)), validation=images.validation.select(range(4)))
    layers = inspected(other, few, ks=(2,), methods=("prca",)).layers
    assert len(layers) == 4
    assert all(len(each.eigenvalues["prca"]) == each.width for each in layers)
    assert all(0 <= each.accuracy_at_k["prca"][0].accuracy <= 1 for each in layers)


def test_widths_asked_for_are_those_measured(teacher: Teacher, images: SubtaskImages) -> None:
    measured = inspected(teacher, images, ks=(1, 7), methods=("random", "identity", "prca_indefinite"))
    # Seven directions of a layer of six are all of them.
    assert [[point.k for point in each.accuracy_at_k["random"]] for each in measured.layers] == [[1, 6], [1, 7]]
    assert set(measured.layers[0].eigenvalues) == {"prca_indefinite"}


def test_the_suggestion_follows_from_the_first_method(found: Inspection) -> None:
    widths = [each.suggested_width["prca"] for each in found.layers]
    assert found.suggestion.method == "prca"
    assert found.suggestion.student == "plain:" + "-".join(map(str, widths))
    for layer in found.layers:
        allowed = 0.01 * found.teacher_accuracy
        met = {p.k: p.drop_interval[0] <= allowed for p in layer.accuracy_at_k["prca"]}
        assert layer.suggested_width["prca"] == suggested_width(met)


def test_all_layers_at_once_are_measured_too(found: Inspection, teacher: Teacher, images: SubtaskImages) -> None:
    assert isinstance(images.train, ArrayImages)
    assert isinstance(images.validation, ArrayImages)
    wide = inspected(teacher, images, target=0.01, methods=("pca",), ks=(2,))
    assert wide.suggestion.widths == (4, 4)

    training = images.train

    def project_four(layer: str) -> Callable[[object, object, Tensor], Tensor]:
        samples = positions_of(teacher, training, layer)
        directions = np.linalg.eigh(np.cov(samples.T, bias=True))[1][:, -4:]
        kept, mean = (torch.from_numpy(directions @ directions.T).float(), torch.from_numpy(samples.mean(0)).float())
        return lambda _, __, output: (
            torch.einsum("de,nehw->ndhw", kept, output - mean[:, None, None]) + mean[:, None, None]
        )

    by_hand = {layer: project_four(layer) for layer in ("stages.0", "stages.1")}
    hooks = [teacher.model.get_submodule(layer).register_forward_hook(hook) for layer, hook in by_hand.items()]
    right = (answers(teacher, images.validation) == images.validation.labels).mean()
    for hook in hooks:
        hook.remove()
    assert wide.suggestion.together_accuracy == pytest.approx(right)
    low, high = wide.suggestion.together_drop_interval or (0.0, 0.0)
    assert low <= found.teacher_accuracy - right <= high


def test_one_image_decides_no_width() -> None:
    """Of 80 images, as many directions as lose one of them are enough; a loss that no accident explains is not."""
    teacher = Tally(size=80, right=78)
    assert not Tally(size=80, right=77, lost=1).misses(0.99, teacher)
    assert not Tally(size=80, right=78, lost=1, gained=1).misses(0.99, teacher)
    assert Tally(size=80, right=66, lost=12).misses(0.99, teacher)
    # The same share of a hundred times the images is no accident.
    assert Tally(size=8000, right=7600, lost=200).misses(0.99, Tally(size=8000, right=7800))


def test_too_few_images_suggest_no_width(teacher: Teacher, images: SubtaskImages) -> None:
    few = replace(images, validation=images.validation.select(range(49)))
    refused = inspected(teacher, few, "plain:32-16", methods=("prca",))
    assert [each.suggested_width for each in refused.layers] == [{"prca": None}] * 2
    assert refused.suggestion.student is None
    assert refused.suggestion.given is not None
    assert refused.suggestion.given.factor is None
    assert "49 validation images are too few" in (refused.suggestion.refused or "")
    assert all(each.accuracy_at_k["prca"] for each in refused.layers)


def test_a_teacher_at_chance_suggests_no_width(teacher: Teacher, images: SubtaskImages) -> None:
    assert isinstance(images.validation, ArrayImages)
    labels = np.roll(images.validation.labels, 1)
    unknown = replace(images, validation=replace(images.validation, labels=labels))
    refused = inspected(teacher, unknown, methods=("prca",))
    assert refused.suggestion.widths == (None, None)
    assert "not better than chance" in (refused.suggestion.refused or "")


def test_a_target_that_is_missed_suggests_nothing(teacher: Teacher, images: SubtaskImages) -> None:
    missed = inspected(teacher, images, ks=(1,), methods=("identity",), target=1.0)
    assert [each.suggested_width["identity"] for each in missed.layers] == [None, None]
    assert missed.suggestion.student is None
    assert missed.suggestion.together_accuracy is None


def test_a_plain_student_is_told_its_factor(teacher: Teacher, images: SubtaskImages) -> None:
    given_student = inspected(teacher, images, "plain:32-16", methods=("prca",)).suggestion.given
    assert given_student is not None
    assert given_student.widths == {"stages.0": 32, "stages.1": 16}
    wanted = [
        each.suggested_width["prca"] for each in inspected(teacher, images, "plain:32-16", methods=("prca",)).layers
    ]
    assert given_student.factor is not None
    assert None not in wanted
    enough = [
        round(32 * given_student.factor) >= (wanted[0] or 0),
        round(16 * given_student.factor) >= (wanted[1] or 0),
    ]
    less = given_student.factor - 0.01
    assert all(enough)
    assert round(32 * less) < (wanted[0] or 0) or round(16 * less) < (wanted[1] or 0)


def test_a_family_without_a_factor_has_none(teacher: Teacher, images: SubtaskImages) -> None:
    suggestion = inspected(teacher, images, "timm:lcnet_035", methods=("pca",), ks=(6,)).suggestion
    assert suggestion.given is not None
    assert suggestion.given.factor is None


def test_an_unknown_layer_names_the_nearest(teacher: Teacher, images: SubtaskImages) -> None:
    with pytest.raises(UsageError, match=r"PlainNet has no layer 'stage.1'. Did you mean stages.1"):
        inspected(teacher, images, layers=("stage.1",))


def test_a_k_above_every_width_is_refused(teacher: Teacher, images: SubtaskImages) -> None:
    with pytest.raises(UsageError, match=r"k = 9 is more directions.*stages.0 6, stages.1 8.*at most 8"):
        inspected(teacher, images, ks=(2, 9))


@pytest.mark.skipif(torch.cuda.is_available(), reason="the machine has what the test says it lacks")
def test_a_device_that_is_not_there_is_refused(teacher: Teacher, images: SubtaskImages) -> None:
    config = InspectConfig(compute="cuda")
    with pytest.raises(UsageError, match=r"compute = 'cuda' is not available on this machine; it has: .*cpu"):
        inspect_subspaces(teacher, teacher.subtask(KEPT), images, config)


@pytest.mark.parametrize("ks", [(1, 2), ()])
def test_progress_names_its_phases_and_never_goes_back(
    ks: tuple[int, ...], teacher: Teacher, images: SubtaskImages
) -> None:
    seen: list[tuple[int, int, str]] = []
    inspect_subspaces(
        teacher,
        teacher.subtask(KEPT),
        images,
        InspectConfig(compute="cpu", ks=ks, methods=("pca", "random")),
        progress=lambda *at: seen.append(at),
    )
    assert list(dict.fromkeys(note for *_, note in seen[:-1])) == ["subspaces", "accuracy at K"]
    shares = [done / total for done, total, _ in seen]
    assert shares == sorted(shares)
    assert [place for place, share in enumerate(shares) if share == 1] == [len(seen) - 1]


# --- samples and files -----------------------------------------------------------------------------------------------


def test_a_sample_keeps_the_classes_in_proportion_whatever_the_order() -> None:
    images = random_images(300, seed=3)
    labels = np.repeat([0, 1, 2], [150, 100, 50]).astype(np.int64)
    images = replace(images, labels=labels)
    chosen = sample_images(images, 60, seed=0)
    assert np.bincount(chosen.labels).tolist() == [30, 20, 10]
    order = np.random.default_rng(0).permutation(300)
    shuffled = sample_images(replace(images, labels=labels[order], rows=images.rows[order]), 60, seed=0)
    digests = [{each.digest(index) for index in range(60)} for each in (chosen, shuffled)]
    assert digests[0] == digests[1]
    other = sample_images(images, 60, seed=1)
    assert {other.digest(index) for index in range(60)} != digests[0]
    assert sample_images(images, 300, seed=0) is images


def test_the_files_say_what_the_values_say(found: Inspection, tmp_path: Path) -> None:
    record, picture = write_inspection(found, tmp_path / "inspect")
    read = json.loads(record.read_text(encoding="utf-8"))
    assert (read["kind"], read["schema"], read["teacher"], read["subtask"]) == ("inspection", 1, "small", "kept")
    assert read == json.loads(json.dumps(found.to_json()))
    assert ElementTree.fromstring(picture.read_bytes()).tag == "{http://www.w3.org/2000/svg}svg"
    first = picture.read_bytes()
    write_inspection(found, tmp_path / "inspect")
    assert picture.read_bytes() == first
    assert sorted(path.name for path in record.parent.iterdir()) == ["inspection.json", "inspection.svg"]


def test_a_picture_without_matplotlib_is_refused(
    found: Inspection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find(name))
    with pytest.raises(MissingDependencyError, match=r"picture of an inspection.*pip install 'edgedistill\[compare\]'"):
        write_inspection(found, tmp_path)
    assert not list(tmp_path.iterdir())
