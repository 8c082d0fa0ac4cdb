"""What is checked of the maps, held to the measures of Quantus where both ask the same.

Quantus is no dependency: it requires `opencv-python`, which overwrites `opencv-python-headless`. `.ci/run` puts it into
a folder of its own for these tests.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgedistill.explanation.agreement import compare_maps
from edgedistill.explanation.attribution import Path, attribute
from edgedistill.explanation.evidence import class_evidence
from edgedistill.explanation.flipping import SHARES, flipping_curves, order_by
from edgedistill.explanation.inpainting import inpaint
from edgedistill.explanation.noise import add_noise, compare_noisy
from edgedistill.models.plain import PlainNet

pytestmark = pytest.mark.filterwarnings("ignore::Warning")
RAW = {"normalise": False, "abs": False, "disable_warnings": True}
Array = NDArray[Any]
TARGETS = np.array([1, 3, 0])


@pytest.fixture(scope="module")
def quantus() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("quantus", exc_type=ImportError)


class Pixels(nn.Module):
    """Takes pixels (B, 3, H, W) and gives for every class the evidence for it, as Quantus asks for single outputs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        logits = self.network((pixels - 127.5) / 64)
        classes = range(logits.shape[1])
        return torch.stack([class_evidence(logits, torch.full((len(pixels),), each)) for each in classes], dim=1)


def maps_of(model: nn.Module, inputs: Array, targets: Array, **_: Any) -> Array:
    """Explain as `explain` does, with the signature that Quantus calls."""
    network = model.network
    assert isinstance(network, nn.Module)
    images = (torch.from_numpy(np.asarray(inputs, dtype=np.float32)) - 127.5) / 64
    found = attribute(network, images, torch.from_numpy(targets), "integrated-gradients", path=Path(steps=4))
    return np.asarray(found.double().numpy())


@pytest.fixture(scope="module")
def model() -> Pixels:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Pixels(PlainNet((6, 8), 4)).eval()


@pytest.fixture(scope="module")
def pixels() -> Array:
    return np.random.default_rng(0).integers(20, 236, (3, 3, 16, 16)).astype(np.float32)


def noisy(arr: Array, seed: int) -> Array:
    rows = torch.from_numpy(arr.reshape(-1, 3, 16, 16)).permute(0, 2, 3, 1)
    found = add_noise(rows, [(seed, place) for place in range(len(rows))])
    return found.permute(0, 3, 1, 2).reshape(arr.shape).numpy()


def test_the_change_under_noise_is_its_sensitivity(quantus: Any, model: Pixels, pixels: Array) -> None:
    seeds = range(3)

    def ask(measure: Callable[..., Any]) -> list[float]:
        drawn = iter(seeds)
        asked = measure(nr_samples=3, perturb_func=lambda arr, **_: noisy(arr, next(drawn)), **RAW)
        found = asked(model, pixels, TARGETS, maps_of(model, pixels, TARGETS), explain_func=maps_of)
        return [float(each) for each in found]

    clean = maps_of(model, pixels, TARGETS)
    ours = np.array(
        [
            [compare_noisy(*pair)["change"] for pair in zip(clean, maps_of(model, made, TARGETS), strict=True)]
            for made in (noisy(pixels, seed) for seed in seeds)
        ]
    )
    assert ask(quantus.MaxSensitivity) == pytest.approx(ours.max(axis=0).tolist(), rel=1e-6)
    assert ask(quantus.AvgSensitivity) == pytest.approx(ours.mean(axis=0).tolist(), rel=1e-6)


def test_random_weights_change_a_map_as_in_its_randomisation_of_all_layers(
    quantus: Any, model: Pixels, pixels: Array
) -> None:
    with torch.random.fork_rng():
        measure = quantus.MPRT(return_last_correlation=True, **RAW)
        wanted = measure(model, pixels, TARGETS, maps_of(model, pixels, TARGETS), explain_func=maps_of)
        *_, (_, random) = quantus.PyTorchModel(model).get_random_layer_generator(order="top_down", seed=measure.seed)
        pairs = zip(maps_of(model, pixels, TARGETS), maps_of(random, pixels, TARGETS), strict=True)
        found = [compare_maps(*pair)["spearman"] for pair in pairs]
    assert found == pytest.approx(wanted, abs=1e-9)
    assert max(found) < 0.9


def test_maps_for_another_class_agree_as_in_its_random_logit(quantus: Any, model: Pixels, pixels: Array) -> None:
    asked: list[Array] = []

    def explain(model: nn.Module, inputs: Array, targets: Array, **_: Any) -> Array:
        asked.append(targets)
        return maps_of(model, inputs, targets)

    before = np.random.get_state()  # Quantus seeds it
    measure = quantus.RandomLogit(num_classes=4, similarity_func=quantus.similarity_func.correlation_spearman, **RAW)
    clean = maps_of(model, pixels, TARGETS)
    wanted = measure(model, pixels, TARGETS, clean, explain_func=explain)
    np.random.set_state(before)
    (others,) = asked
    assert not np.any(others == TARGETS)
    found = [compare_maps(*pair)["spearman"] for pair in zip(clean, maps_of(model, pixels, others), strict=True)]
    assert found == pytest.approx(list(wanted), abs=1e-9)


def test_its_completeness_holds_to_the_last_bit_where_arithmetic_is_exact(quantus: Any) -> None:
    """With whole numbers and one step no sum is rounded. Elsewhere its answer is no, by one bit or by half."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2))
    whole = np.random.default_rng(1)
    with torch.no_grad():
        network[1].weight.copy_(torch.from_numpy(whole.integers(-3, 4, (2, 768))))  # type: ignore[operator]
        network[1].bias.copy_(torch.tensor([2.0, -5.0]))  # type: ignore[operator]
    images, targets = whole.integers(-9, 10, (3, 3, 16, 16)).astype(np.float32), np.array([0, 1, 1])
    found = attribute(network, torch.from_numpy(images), torch.from_numpy(targets), path=Path(steps=1)).numpy()
    # It takes away as many values of an image as its map has: all three colours only where the map has three.
    maps = np.stack([found, 0 * found, 0 * found], axis=1)

    class Evidence(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            first = class_evidence(network(inputs), torch.zeros(len(inputs), dtype=torch.int64))
            return torch.stack([first, -first], dim=1)

    measure = quantus.Completeness(perturb_baseline=0.0, **RAW)
    assert list(measure(Evidence().eval(), images, targets, maps)) == [True] * 3
    assert list(measure(Evidence().eval(), images, targets, maps + 1e-3)) == [False] * 3


def test_flipping_by_a_map_is_its_region_perturbation_filled_from_what_is_left(
    quantus: Any, model: Pixels, pixels: Array
) -> None:
    grey, images = torch.full((3,), 127.5), torch.from_numpy(pixels)
    gone = np.zeros(pixels.reshape(3, -1).shape, dtype=bool)

    def fill(arr: Array, indices: Array, **_: Any) -> Array:
        gone[np.arange(3)[:, None], indices] = True
        known = torch.from_numpy(~gone.reshape(pixels.shape)[:, :1])
        return inpaint(images, known, grey).reshape(arr.shape).numpy()

    maps = maps_of(model, pixels, TARGETS)
    measure = quantus.RegionPerturbation(patch_size=4, regions_evaluation=16, perturb_func=fill, **RAW)
    lost = np.array(measure(model, pixels, TARGETS, maps, softmax=False))
    targets = torch.from_numpy(TARGETS)

    def evidence(flipped: Tensor) -> tuple[Tensor, ...]:
        return (model(flipped).gather(1, targets[:, None])[:, 0],)

    with torch.no_grad():
        (curves,) = flipping_curves(images, order_by(torch.from_numpy(maps)), grey, evidence)
    assert np.abs(lost).max(axis=1).min() > 1e-4
    for place, share in enumerate(SHARES):
        if count := round(share * 16):
            assert (curves[:, 0] - curves[:, place]).tolist() == pytest.approx(lost[:, count - 1].tolist(), abs=1e-6)
