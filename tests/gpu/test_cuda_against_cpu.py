"""A CUDA GPU finds the subspaces, moments and losses of the CPU."""

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from edgedistill.compute.accelerator import with_formats
from edgedistill.config import DistillConfig
from edgedistill.data.loader import open_loader
from edgedistill.data.splits import SubtaskImages
from edgedistill.distillation.events import EpochRecord
from edgedistill.losses.polar import polar_by_products
from edgedistill.models.teacher import Teacher
from edgedistill.networks.average import build_average
from edgedistill.subspaces.directions import Subspace
from edgedistill.subspaces.finding import find_subspaces
from edgedistill.subspaces.moments import MomentAccumulator, Moments
from reference.gpu_training import CLASSES, Train

# What libraries say about the machine is no fault of the training.
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]

LAYERS = ("layer2", "layer4")
RANK = 24


def batch_of(teacher: Teacher, images: SubtaskImages) -> Tensor:
    pixels, *_ = next(iter(open_loader(images.train, teacher.preprocess, 64)))
    normalised: Tensor = teacher.normalise()(pixels)
    return normalised


def terms(record: EpochRecord) -> dict[str, float]:
    return {"loss": record.loss, "kd": record.loss_kd, **record.loss_layers}


@pytest.mark.parametrize(("products", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5), (None, 1e-5)])
def test_moments_of_the_same_numbers_are_the_same(
    gpu: torch.device, products: torch.dtype | None, tolerance: float
) -> None:
    """The mean is a hundred times the spread, and the last block is a part of one."""
    draws = torch.Generator().manual_seed(0)
    spread = torch.randn(5000, 48, generator=draws) @ torch.randn(48, 48, generator=draws)
    activation, context = 500 + spread, torch.randn(5000, 48, generator=draws) + 0.1 * spread
    exact, found = MomentAccumulator(48), MomentAccumulator(48, gpu, products)
    for start in range(0, 5000, 2500):
        part = slice(start, start + 2500)
        exact.update(activation[part], context[part])
        found.update(activation[part].to(gpu), context[part].to(gpu))
    wanted, given = exact.moments(), found.moments()
    assert given.count == wanted.count
    for field in Moments.__slots__[1:]:
        one, other = getattr(given, field), getattr(wanted, field)
        assert one.dtype == torch.float64
        assert one.device.type == "cpu"
        assert (one - other).norm() <= tolerance * other.norm(), field


@pytest.mark.parametrize("method", ["prca", "pca", "gradient"])
def test_subspaces_are_those_of_the_cpu(
    gpu: torch.device, teacher: Teacher, images: SubtaskImages, method: str
) -> None:
    batch, indices = batch_of(teacher, images), teacher.subtask(CLASSES).class_indices

    def find(device: torch.device) -> dict[str, Subspace]:
        model = teacher.model.to(device)
        return find_subspaces(model, indices, [batch.to(device)], dict.fromkeys(LAYERS, RANK), method=method)

    try:
        found, wanted = find(gpu), find(torch.device("cpu"))
    finally:
        teacher.model.cpu()
    for layer in LAYERS:
        mine, theirs = found[layer], wanted[layer]
        assert mine.sample_count == theirs.sample_count
        largest = float(theirs.eigenvalues[0])
        assert (mine.eigenvalues - theirs.eigenvalues).abs().max() < 1e-4 * largest
        torch.testing.assert_close(mine.mean, theirs.mean, rtol=1e-4, atol=1e-5)
        # The nearer two eigenvalues are, the more their directions may turn into each other (Davis & Kahan 1970).
        gaps = theirs.eigenvalues[:-1] - theirs.eigenvalues[1:]
        for cut in range(1, theirs.basis.shape[1]):
            if gaps[cut - 1] > 1e-3 * largest:
                ours, its = (each.basis[:, :cut] for each in (mine, theirs))
                turned = torch.linalg.matrix_norm(ours @ ours.T - its @ its.T, 2)
                assert turned < 1e-4 * largest / gaps[cut - 1], f"{layer}, {cut} directions"


@pytest.fixture(scope="module")
def on_cpu(train: Train) -> Callable[..., EpochRecord]:
    """The losses of the first step on the CPU in single precision, before anything is learnt, by other settings."""

    @functools.lru_cache
    def first(**settings: object) -> EpochRecord:
        return train("cpu", epochs=1, batch_size=80, **settings).history[0]

    return first


@pytest.mark.parametrize(
    ("formats", "settings", "tolerance"),
    [
        pytest.param({}, {}, 1e-3, id="float32"),
        pytest.param({"channels_last": True}, {}, 1e-3, id="channels-last"),
        pytest.param({"mixed_precision": "bf16"}, {}, 0.03, id="bfloat16"),
        pytest.param({"mixed_precision": "bf16", "channels_last": True}, {}, 0.03, id="bfloat16-channels-last"),
        pytest.param({"mixed_precision": "fp16"}, {}, 0.01, id="float16"),
        pytest.param({"mixed_precision": "auto", "channels_last": "auto"}, {}, 0.03, id="defaults"),
        pytest.param({"teacher_cache": "1"}, {}, 5e-3, id="teacher-cached"),
        pytest.param({}, {"alignment": "learned", "student_normalisation": "center"}, 1e-3, id="as-the-paper"),
        pytest.param({}, {"layer_loss": "vid"}, 1e-3, id="vid"),
    ],
)
def test_the_first_losses_are_those_of_the_cpu(
    gpu: torch.device,
    train: Train,
    on_cpu: Callable[..., EpochRecord],
    formats: dict[str, object],
    settings: dict[str, object],
    tolerance: float,
) -> None:
    if formats.get("mixed_precision") in ("fp16", "bf16") and gpu.type == "cpu":
        pytest.skip("the CPU has no float16 here, and many have no fast bfloat16")
    if formats.get("mixed_precision") == "bf16" and gpu.type == "cuda" and not torch.cuda.is_bf16_supported():
        pytest.skip("this GPU has no bfloat16")
    found = train(gpu.type, epochs=1, batch_size=80, **formats, **settings)
    assert terms(found.history[0]) == pytest.approx(terms(on_cpu(**settings)), rel=tolerance)
    assert all(each.device.type == "cpu" and each.dtype == torch.float32 for each in found.student.parameters())


def test_some_epochs_later_the_losses_are_still_alike(gpu: torch.device, train: Train) -> None:
    """The rotation is refreshed in the ninth step, and the average of the weights is validated."""
    mine, theirs = (train(place, epochs=3, batch_size=16, ema=0.9) for place in (gpu.type, "cpu"))
    for one, other in zip(mine.history, theirs.history, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=0.1)
        assert one.validation_loss == pytest.approx(other.validation_loss, rel=0.2)
    assert mine.teacher_validation_accuracy == theirs.teacher_validation_accuracy


def test_what_is_left_to_the_device_suits_it(gpu: torch.device) -> None:
    chosen = with_formats(DistillConfig(compute=gpu.type))
    modern = gpu.type == "cuda" and torch.cuda.get_device_capability() >= (8, 0)
    assert chosen.mixed_precision == ("bf16" if modern else "no")
    assert chosen.channels_last is (gpu.type == "cuda")


@pytest.mark.parametrize("shape", [(24, 24), (12, 40)])
def test_the_rotation_found_by_products_is_that_of_a_decomposition(gpu: torch.device, shape: tuple[int, int]) -> None:
    draws = torch.Generator().manual_seed(0)
    matrix, previous = torch.randn(*shape, generator=draws), torch.eye(*shape)
    left, _, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    found = polar_by_products(matrix.to(gpu), previous.to(gpu))
    torch.testing.assert_close(found.cpu().double(), left @ right, rtol=0, atol=1e-4)


def test_the_average_of_the_weights_is_the_one_of_the_cpu(gpu: torch.device) -> None:
    def follow(device: torch.device) -> dict[str, Tensor]:
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(device)
        average = build_average(network, 0.9)
        assert average is not None
        for step in range(5):
            for each in (*network.parameters(), *network.buffers()):
                each.data.copy_((torch.arange(each.numel()).view(each.shape) * 0.1 + step).to(each.dtype))
            average.update_parameters(network)
        return {name: each.cpu() for name, each in average.state_dict().items()}

    torch.testing.assert_close(follow(gpu), follow(torch.device("cpu")), rtol=1e-6, atol=1e-6)
