"""Before INT8: a planted fragile layer is named, a sound student is called ready, and the figures are what they say."""

import copy
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from edgedistill.networks.modes import evaluating
from edgedistill.quantisation.readiness import LayerReadiness, Readiness, readiness
from reference.planted_students import FRAGILE, PlantedExpert
from reference.small_networks import small_network


def layer_of(found: Readiness, name: str) -> LayerReadiness:
    return next(each for each in found.layers if each.name == name)


def test_a_planted_channel_makes_its_reader_the_fragile_layer(planted: PlantedExpert) -> None:
    sound = readiness(planted.student(planted.sound), planted.teacher, planted.images.train)
    broken = readiness(planted.student(), planted.teacher, planted.images.train)
    assert (sound.verdict, broken.verdict) == ("ready", "fragile")
    assert [each.name for each in broken.fragile_layers] == [FRAGILE]
    # Its input's channels are what is wrong with it, and no other layer changed.
    before, after = layer_of(sound, FRAGILE), layer_of(broken, FRAGILE)
    assert after.input_channel_spread > 20 * before.input_channel_spread
    for name in ("stages.0.conv1", "stages.2.conv2", "head"):
        assert layer_of(broken, name).output_snr_db == pytest.approx(layer_of(sound, name).output_snr_db, abs=0.2)
    assert FRAGILE in broken.sentence()
    assert "input channels' ranges differ" in broken.sentence()
    assert sound.sentence().startswith("INT8 readiness: ready")


def test_the_record_is_plain_json_with_the_thresholds(planted: PlantedExpert) -> None:
    found = readiness(planted.student(), planted.teacher, planted.images.train)
    record = json.loads(json.dumps(found.to_json()))
    assert record["verdict"] == "fragile"
    assert record["fragile"] == [FRAGILE]
    assert record["threshold_db"] == found.threshold_db
    assert record["image_count"] == min(128, len(planted.images.train))
    assert len(record["layers"]) == len(found.layers) == 9


def test_fewer_large_images_are_enough(planted: PlantedExpert) -> None:
    large = replace(planted.teacher, preprocess=replace(planted.teacher.preprocess, size=(128, 128)))
    assert len(planted.images.train) > 32
    assert readiness(OneLayer(), large, planted.images.train).image_count == 32


def test_the_student_and_its_modes_are_left_as_they_were(planted: PlantedExpert) -> None:
    student = planted.student().train()
    before = copy.deepcopy(student.state_dict())
    first = readiness(student, planted.teacher, planted.images.train, seed=3)
    assert all(module.training for module in student.modules())
    assert all(torch.equal(value, student.state_dict()[name]) for name, value in before.items())
    assert readiness(student, planted.teacher, planted.images.train, seed=3) == first
    assert readiness(student, planted.teacher, planted.images.train, seed=4) != first


class OneLayer(nn.Module):
    """A linear layer on the mean colour of each quarter of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled = nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)
        out: torch.Tensor = self.layer(pooled)
        return out


def test_noise_and_outliers_are_those_of_a_calculation_by_hand(planted: PlantedExpert) -> None:
    torch.manual_seed(0)
    network = OneLayer()
    images = planted.images.train.select(range(20))
    found = readiness(network, planted.teacher, images).layers[0]
    normalise = planted.teacher.normalise()
    pixels = np.stack([planted.teacher.preprocess.apply(images.read(index)) for index in range(20)])
    x = nn.functional.adaptive_avg_pool2d(normalise(torch.from_numpy(pixels)), 2).flatten(1).numpy()
    low, high = min(0.0, float(x.min())), max(0.0, float(x.max()))
    step = (high - low) / 255
    zero = round(-low / step)
    rounded = (np.clip(np.round(x / step) + zero, 0, 255) - zero) * step
    W = network.layer.weight.detach().numpy()
    scale = np.abs(W).max(1, keepdims=True) / 127
    W_rounded = np.round(W / scale) * scale
    exact, b = x @ W.T, network.layer.bias.detach().numpy()
    noise = rounded @ W_rounded.T - exact
    expected = 10 * math.log10(np.square(exact + b).sum() / np.square(noise).sum())
    assert found.output_snr_db == pytest.approx(expected, abs=0.2)
    ranges = np.maximum(x.max(0), 0) - np.minimum(x.min(0), 0)
    assert found.input_channel_spread == pytest.approx(ranges.max() / np.sort(ranges)[5], rel=1e-4)
    assert found.name == "layer"


def test_batch_norm_counts_as_folded(planted: PlantedExpert) -> None:
    """A channel that its batch norm makes a thousand times smaller does not count, nor does its noise."""
    student = planted.student(planted.sound)
    with torch.no_grad():
        student.get_parameter("stages.0.conv1.weight")[0] *= 1000
        student.get_buffer("stages.0.bn1.running_mean")[0] *= 1000
        student.get_buffer("stages.0.bn1.running_var")[0] *= 1e6
    scaled = readiness(student, planted.teacher, planted.images.train)
    plain = readiness(planted.student(planted.sound), planted.teacher, planted.images.train)
    for mine, theirs in zip(scaled.layers, plain.layers, strict=True):
        assert mine.weight_spread == pytest.approx(theirs.weight_spread, rel=2e-2)
        assert mine.output_snr_db == pytest.approx(theirs.output_snr_db, abs=0.3)


@pytest.mark.parametrize("family", ["mobilenetv3", "vit"])
def test_every_weighted_layer_of_a_network_is_looked_at(planted: PlantedExpert, family: str) -> None:
    network = small_network(family)
    found = readiness(network, planted.teacher, planted.images.train.select(range(8)))
    wanted = {name for name, module in network.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))}
    assert {each.name for each in found.layers} == wanted
    assert all(math.isfinite(each.output_snr_db) for each in found.layers)
    kinds = {each.name: each.kind for each in found.layers}
    if family == "mobilenetv3":
        assert kinds["blocks.1.0.conv_dw"] == "depthwise conv2d"
    with evaluating(network):
        assert not network.training


def test_a_student_without_layers_has_nothing_to_lose(planted: PlantedExpert) -> None:
    found = readiness(nn.Flatten(), planted.teacher, planted.images.train.select(range(4)))
    assert found.layers == ()
    assert "no convolution or linear layer" in found.sentence()
