"""Maps under a little noise: closed forms of a linear network, and captum's measure of the same thing."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgedistill.explanation.attribution import Path, attribute
from edgedistill.explanation.noise import LEVELS, add_noise, compare_noisy
from edgedistill.models.normalise import Normalise
from edgedistill.models.plain import PlainNet

SEEDS = [(7, 0), (7, 1), (7, 2)]


def pictures(count: int = 3, side: int = 16) -> Tensor:
    drawn = np.random.default_rng(0).integers(20, 236, (count, side, side, 3), dtype=np.uint8)
    return torch.from_numpy(drawn)


def test_noise_is_small_centred_and_within_what_a_picture_can_hold() -> None:
    pixels = pictures(side=64)
    noise = add_noise(pixels, SEEDS) - pixels
    assert 0.99 * LEVELS < noise.abs().max() <= LEVELS + 1e-4
    assert abs(float(noise.mean())) < 0.05
    assert float(noise.std()) == pytest.approx(2 * LEVELS / 12**0.5, rel=0.02)
    extreme = torch.tensor([[[[0, 255, 128]]]], dtype=torch.uint8).expand(1, 32, 32, 3)
    noisy = add_noise(extreme, SEEDS[:1])
    assert noisy.min() >= 0
    assert noisy.max() <= 255
    assert (noisy[..., 0] == 0).float().mean() == pytest.approx(0.5, abs=0.1)


def test_the_noise_of_an_image_is_its_own_whatever_batch_it_is_in() -> None:
    pixels = pictures()
    whole, alone = add_noise(pixels, SEEDS), add_noise(pixels[1:2], SEEDS[1:2])
    assert torch.equal(whole[1], alone[0])
    assert not torch.allclose(whole[0] - pixels[0], whole[1] - pixels[1], atol=0.5)
    assert not torch.equal(add_noise(pixels[1:2], [(8, 1)]), alone)


def test_a_linear_networks_map_changes_by_its_weights_times_the_noise() -> None:
    pixels, normalise = pictures(1), Normalise((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2))
    nn.init.normal_(network[1].weight, generator=torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    noisy = add_noise(pixels, SEEDS[:1])
    target = torch.tensor([0])
    maps = [
        attribute(network, normalise(each), target, path=Path(steps=3))[0].double().numpy() for each in (pixels, noisy)
    ]
    weights = (network[1].weight[0] - network[1].weight[1]).detach().view(3, 16, 16).double().numpy()  # type: ignore[index]
    spread = 255 * np.array([0.2, 0.3, 0.4])[:, None, None]
    mean = 255 * np.array([0.4, 0.5, 0.6])[:, None, None]
    image, noise = pixels[0].double().numpy(), (noisy - pixels)[0].double().numpy()
    clean = (weights * (image.transpose(2, 0, 1) - mean) / spread).sum(axis=0)
    difference = (weights * noise.transpose(2, 0, 1) / spread).sum(axis=0)
    found = compare_noisy(maps[0], maps[1])
    assert found["change"] == pytest.approx(np.linalg.norm(difference) / np.linalg.norm(clean), rel=1e-3)
    moved = clean + difference
    cosine = np.sum(clean * moved) / np.linalg.norm(clean) / np.linalg.norm(moved)
    assert found["cosine"] == pytest.approx(cosine, abs=1e-5)


@pytest.mark.parametrize(
    ("clean", "noisy", "change"), [(2.0, 2.0, 0.0), (2.0, 3.0, 0.5), (0.0, 0.0, 0.0), (0.0, 3.0, 1.0)]
)
def test_a_map_without_relevance_stays_or_has_changed_wholly(clean: float, noisy: float, change: float) -> None:
    shape = np.random.default_rng(0).normal(size=(4, 4))
    found = compare_noisy(clean * shape, noisy * shape)
    assert found["change"] == pytest.approx(change)
    assert found["cosine"] == pytest.approx(1.0 if clean and noisy else 0.0)


@pytest.mark.parametrize("method", ["integrated-gradients", "lrp"])
def test_the_change_is_what_captum_calls_sensitivity(method: str) -> None:
    from captum.metrics import sensitivity_max

    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = PlainNet((6, 8), 4).eval()
    pixels, normalise, targets = pictures(), Normalise((0.5, 0.5, 0.5), (0.3, 0.3, 0.3)), torch.tensor([1, 3, 0])

    def explain(images: Tensor) -> Tensor:
        return attribute(network, normalise(images), targets, method, path=Path(steps=4)).double()

    def ask(images: tuple[Tensor] | Tensor) -> tuple[Tensor]:  # captum hands over a tuple first, then a tensor
        return (explain(images[0] if isinstance(images, tuple) else images),)

    wanted = sensitivity_max(ask, pixels.float(), lambda images: add_noise(images, SEEDS), n_perturb_samples=1)
    clean, noisy = (explain(each).numpy() for each in (pixels, add_noise(pixels, SEEDS)))
    found = [compare_noisy(one, two)["change"] for one, two in zip(clean, noisy, strict=True)]
    assert found == pytest.approx(wanted.tolist(), rel=1e-4)
    assert min(found) > 0
