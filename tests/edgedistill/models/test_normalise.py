"""Normalised images are the same bit for bit, however they are computed."""

import pytest
import torch

from edgedistill.models.normalise import Normalise

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
@pytest.mark.parametrize("shape", [(2, 5, 7, 3), (1, 1, 1, 3), (3, 32, 32, 3), (0, 4, 4, 3)])
def test_every_byte_becomes_the_number_of_its_channel(shape: tuple[int, ...], kind: torch.dtype) -> None:
    normalise = Normalise(MEAN, STD)
    pixels = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).to(kind)
    before = pixels.clone()
    found = normalise(pixels)
    scale, shift = normalise.norm_scale.flatten(), normalise.norm_shift.flatten()
    wanted = torch.stack([pixels[..., c].float() * scale[c] + shift[c] for c in range(3)], dim=1)
    assert found.dtype is torch.float32
    assert torch.equal(found, wanted)
    assert torch.equal(pixels, before)


def test_images_lie_in_memory_as_they_came() -> None:
    found = Normalise(MEAN, STD)(torch.zeros(2, 8, 6, 3, dtype=torch.uint8))
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_an_exported_graph_keeps_its_few_operations() -> None:
    example = (torch.zeros(2, 8, 8, 3, dtype=torch.uint8),)
    graph = torch.export.export(Normalise(MEAN, STD), example).graph
    calls = [str(node.target).split(".")[1] for node in graph.nodes if node.op == "call_function"]
    assert [each for each in calls if not each.startswith("_assert")] == ["to", "permute", "mul", "add"]
