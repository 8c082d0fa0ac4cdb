"""Maps of relevance against closed forms, slow re-implementations and the libraries' own way of writing the rules."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from edgedistill.explanation.attribution import Path, attribute, choose_method, why_not
from edgedistill.explanation.evidence import class_evidence, first_order_parts
from edgedistill.models.libraries.inputs import FlippedInput, GreyInput
from edgedistill.models.plain import PlainNet
from edgedistill_deploy.errors import UsageError
from reference.small_networks import small_network

IG, LRP, ATTENTION = "integrated-gradients", "lrp", "attention"


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return build().eval()


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def with_statistics(network: nn.Module) -> nn.Module:
    """Give batch normalisation means, variances, scales and shifts of its own, so that a wrong folding shows."""
    generator = torch.Generator().manual_seed(1)
    for name, values in network.state_dict().items():
        owner = network.get_submodule(name.rpartition(".")[0])
        if isinstance(owner, nn.BatchNorm2d) and values.ndim:
            wide = name.endswith(("weight", "running_var"))
            drawn = torch.rand(values.shape, generator=generator)
            values.copy_(0.5 + drawn if wide else 0.6 * drawn - 0.3)
    return network


def test_evidence_is_the_difference_of_two_logits_and_ignores_what_all_logits_share() -> None:
    logits, targets = draw(5, 2), torch.tensor([0, 1, 1, 0, 0])
    own, other = logits[range(5), targets], logits[range(5), 1 - targets]
    assert torch.allclose(class_evidence(logits, targets), own - other)
    many, wanted = draw(5, 4), torch.tensor([0, 1, 2, 3, 0])
    assert torch.allclose(class_evidence(many, wanted), class_evidence(many + draw(5, 1, seed=2), wanted), atol=1e-6)


def test_evidence_of_a_group_sums_its_members_probabilities() -> None:
    logits = draw(3, 5)
    found = class_evidence(logits, torch.tensor([0, 0, 1]), [(0, 3), 4])
    group = torch.log(torch.exp(logits[:, 0]) + torch.exp(logits[:, 3]))
    assert torch.allclose(
        found, torch.stack([group[0] - logits[0, 4], group[1] - logits[1, 4], logits[2, 4] - group[2]])
    )


def test_the_parts_of_single_outputs_add_up_to_the_evidence() -> None:
    logits, targets = draw(3, 6), torch.tensor([2, 0, 1])
    parts = first_order_parts(logits, targets, [1, 3, 5])
    assert torch.allclose(parts.sum(dim=1), class_evidence(logits, targets, [1, 3, 5]), atol=1e-6)
    assert not parts[:, [0, 2, 4]].any()


def test_integrated_gradients_of_a_linear_network_are_weights_times_pixels() -> None:
    network = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 5)))
    images, targets, classes = draw(2, 3, 4, 4), torch.tensor([2, 0]), [4, 1, 3]
    weights = network[1].weight.detach().reshape(5, 3, 4, 4)  # type: ignore[index]
    own = weights[[classes[place] for place in targets.tolist()]]
    others = torch.stack([weights[[4, 1]].mean(dim=0), weights[[1, 3]].mean(dim=0)])
    wanted = ((own - others) * images).sum(dim=1)
    assert torch.allclose(attribute(network, images, targets, IG, classes), wanted, atol=1e-5)


def test_integrated_gradients_start_from_the_baseline_that_is_given() -> None:
    network = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 2)))
    images, targets = draw(1, 3, 4, 4), torch.tensor([0])
    grey = torch.tensor([0.5, -0.25, 1.0]).view(1, 3, 1, 1)
    found = attribute(network, images, targets, IG, path=Path(baseline=grey))
    assert torch.allclose(found, attribute(network, images - grey, targets, IG), atol=1e-5)


def test_integrated_gradients_follow_the_slow_sum_and_are_complete() -> None:
    network = with_statistics(seeded(lambda: PlainNet((6, 8), 4)))
    images, targets = draw(2, 3, 16, 16), torch.tensor([1, 3])
    total = torch.zeros_like(images)
    steps = 400
    for step in range(steps):
        point = ((step + 0.5) / steps * images).requires_grad_()
        (slope,) = torch.autograd.grad(class_evidence(network(point), targets).sum(), point)
        total += slope / steps
    found = attribute(network, images, targets, IG, path=Path(steps=300, batch_size=70))
    slow = (total * images).sum(dim=1)
    assert (found - slow).abs().max() < 0.02 * slow.abs().max()
    with torch.no_grad():
        difference = class_evidence(network(images), targets) - class_evidence(network(0 * images), targets)
    assert torch.allclose(found.sum(dim=(1, 2)), difference, atol=0.03 * float(difference.abs().max()))


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_layerwise_relevance_is_what_zennit_gives_by_its_own_canonizer(block: type[BasicBlock | Bottleneck]) -> None:
    from zennit.attribution import Gradient
    from zennit.composites import EpsilonGammaBox
    from zennit.rules import Flat
    from zennit.torchvision import ResNetCanonizer
    from zennit.types import Linear

    network = with_statistics(seeded(lambda: ResNet(block, [1, 1, 1, 1], num_classes=3)))
    images, targets = draw(2, 3, 32, 32), torch.tensor([1, 2])
    composite = EpsilonGammaBox(low=-1, high=1, first_map=[(Linear, Flat())], canonizers=[ResNetCanonizer()])
    with Gradient(network, composite) as explainer:
        _, wanted = explainer(images.clone(), lambda outputs: first_order_parts(outputs, targets))
    found = attribute(network, images, targets, LRP)
    assert torch.allclose(found, wanted.sum(dim=1), rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


def test_layerwise_relevance_of_one_hidden_layer_follows_the_rules_written_out() -> None:
    """Epsilon in the last layer, gamma in the second, flat in the first; 1x1 convolutions on a single pixel."""
    layers = (nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 5, 1), nn.ReLU(), nn.Flatten(), nn.Linear(5, 2))
    network = seeded(lambda: nn.Sequential(*layers))
    image, target = draw(1, 3, 1, 1), torch.tensor([0])
    first, second, last = (network[place] for place in (0, 2, 5))  # type: ignore[index]
    w1, w2, w3 = (each.weight.detach().squeeze().double().numpy() for each in (first, second, last))
    b1, b2, b3 = (each.bias.detach().double().numpy() for each in (first, second, last))
    a0 = image.squeeze().double().numpy()
    a1 = np.maximum(0, w1 @ a0 + b1)
    a2 = np.maximum(0, w2 @ a1 + b2)
    z3 = w3 @ a2 + b3
    r3 = np.array([1, -1]) * z3
    r2 = sum(a2 * w3[k] * r3[k] / z3[k] for k in range(2))
    with_gamma = w2 + 0.25 * np.maximum(0, w2)
    z2 = with_gamma @ a1 + b2 + 0.25 * np.maximum(0, b2)
    r1 = sum(a1 * with_gamma[k] * r2[k] / z2[k] for k in range(5) if a2[k] > 0)
    assert np.allclose(attribute(network, image, target, LRP).item(), np.sum(r1), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("family", ["resnet", "mobilenetv4", "regnet"])
def test_layerwise_relevance_adds_up_to_the_evidence_where_no_convolution_has_a_bias(family: str) -> None:
    network = small_network(family).eval()
    images, targets = draw(2, 3, 64, 64), torch.tensor([0, 3])
    found = attribute(network, images, targets, LRP).sum(dim=(1, 2))
    outputs, bias = network(images).detach(), network.get_classifier().bias.detach()  # type: ignore[operator]
    wanted = (first_order_parts(outputs, targets) * (1 - bias / outputs)).sum(dim=1)  # its last layer has one
    assert torch.allclose(found, wanted, rtol=0.01, atol=1e-4)


def test_layerwise_relevance_does_not_depend_on_where_a_normalisation_has_its_eps() -> None:
    """Networks that came from TensorFlow have an eps of 1e-3, in fifty layers one after another."""
    torch.manual_seed(0)
    model = timm.create_model("tf_efficientnet_lite0", num_classes=3).eval()
    norms = [each for each in model.modules() if isinstance(each, nn.BatchNorm2d)]
    for norm in norms:
        assert norm.eps == 1e-3
        assert norm.running_var is not None
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
    images, targets = torch.randn(2, 3, 32, 32), torch.tensor([0, 2])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = attribute(model, images, targets, "lrp")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for norm in norms:
        assert norm.running_var is not None
        norm.running_var += norm.eps - 1e-9
        norm.eps = 1e-9
    moved = attribute(model, images, targets, "lrp")
    assert found.abs().max() > 0
    torch.testing.assert_close(found, moved, rtol=1e-3, atol=1e-4 * float(moved.abs().max()))


def test_a_grey_or_flipped_network_is_explained_as_the_network_inside() -> None:
    inner = with_statistics(seeded(lambda: PlainNet((6, 8), 4)))
    images, targets = draw(2, 3, 16, 16), torch.tensor([1, 3])
    flipped = attribute(FlippedInput(inner).eval(), images, targets, LRP)
    assert torch.allclose(flipped, attribute(inner, images.flip(1), targets, LRP), atol=1e-5)
    one = seeded(lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 3)))
    grey = images.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    wanted = attribute(one, grey[:, :1], targets % 3, LRP)
    assert torch.allclose(attribute(GreyInput(one).eval(), grey, targets % 3, LRP), wanted, atol=1e-5)


def attend(layer: Any, tokens: Tensor, given: Tensor | None, kept: list[Tensor]) -> Tensor:
    """Be an attention layer for one image, with the attention that is given instead of its own."""
    parts = layer.qkv(tokens).reshape(1, -1, 3, layer.num_heads, layer.head_dim)
    queries, keys, values = (parts[:, :, place].transpose(1, 2) for place in range(3))
    weights = torch.softmax(queries @ keys.transpose(-2, -1) / layer.head_dim**0.5, dim=-1) if given is None else given
    kept.append(weights)
    found: Tensor = layer.proj((weights @ values).transpose(1, 2).flatten(2))
    return found


def attention_by_hand(network: Any, image: Tensor, target: Tensor, *, pooled: bool) -> Tensor:
    """Chefer et al. for one image, with the attentions as free variables of a second pass."""

    def run(given: list[Tensor | None]) -> tuple[Tensor, list[Tensor]]:
        kept: list[Tensor] = []
        for block, weights in zip(network.blocks, given, strict=True):
            block.attn.forward = lambda tokens, *_, layer=block.attn, weights=weights, **__: attend(
                layer, tokens, weights, kept
            )
        evidence = class_evidence(network(image), target)
        for block in network.blocks:
            del block.attn.forward
        return evidence, kept

    _, attentions = run([None] * len(network.blocks))
    free = [each.detach().requires_grad_() for each in attentions]
    evidence, _ = run([*free])
    size = free[0].shape[-1]
    relevance = np.eye(size)
    for weights, slope in zip(free, torch.autograd.grad(evidence.sum(), free), strict=True):
        heads = np.maximum(0, (weights.detach() * slope)[0].double().numpy())
        relevance = relevance + np.mean(heads, axis=0) @ relevance
    relevance -= np.eye(size)
    row = relevance[1:].mean(axis=0) if pooled else relevance[0]
    side = int((size - 1) ** 0.5)
    patches = torch.tensor(row[1:].reshape(1, 1, side, side), dtype=torch.float32)
    return F.interpolate(patches, size=image.shape[-2:], mode="bilinear")[0, 0]


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_attention_aware_gradients_follow_the_slow_rollout(pool: str) -> None:
    options: Any = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "global_pool": pool}
    network = seeded(lambda: timm.create_model("vit_tiny_patch16_224", num_classes=3, **options))
    images, targets = draw(2, 3, 32, 32), torch.tensor([1, 2])
    found = attribute(network, images, targets, ATTENTION)
    assert (found >= 0).all()
    by_hand = [
        attention_by_hand(network, images[place][None], targets[place : place + 1], pooled=pool == "avg")
        for place in range(2)
    ]
    wanted = torch.stack(by_hand)
    assert torch.allclose(found, wanted, rtol=2e-3, atol=2e-3 * float(wanted.max()))


@pytest.mark.parametrize("family", ["vit-registers", "deit"])
def test_attention_of_other_prefixes_folds_to_the_image(family: str) -> None:
    found = attribute(small_network(family), draw(1, 3, 64, 64), torch.tensor([1]), ATTENTION)
    assert found.shape == (1, 64, 64)
    assert found.std() > 0


@pytest.mark.parametrize(("method", "network"), [(IG, "plain"), (LRP, "plain"), (ATTENTION, "vit")])
def test_other_weights_give_another_map_and_the_network_stays_as_it_was(method: str, network: str) -> None:
    model = with_statistics(seeded(lambda: PlainNet((6, 8), 4))) if network == "plain" else small_network("vit")
    model.train()
    before = {name: values.clone() for name, values in model.state_dict().items()}
    images, targets = draw(2, 3, 64, 64), torch.tensor([1, 3])
    first = attribute(model, images, targets, method)
    assert torch.equal(first, attribute(model, images, targets, method))
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(before[name], values) for name, values in model.state_dict().items())
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.copy_(0.3 * draw(*parameter.shape, seed=number))
    other = attribute(model, images, targets, method)
    for one, another in zip(first.flatten(1), other.flatten(1), strict=True):
        assert abs(torch.corrcoef(torch.stack([one, another]))[0, 1]) < 0.9


@pytest.mark.parametrize(
    ("method", "family", "reason"),
    [
        (LRP, "vit", "no rule for its operation 'layer_norm'"),
        (LRP, "mobilenetv3", "no rule for its operation 'hardswish'"),
        (LRP, "densenet", "does not come right after a convolution"),
        (ATTENTION, "resnet", "it has no attention"),
        (ATTENTION, "swin", "do not all attend to the same tokens"),
    ],
)
def test_a_network_without_rules_is_refused_in_a_sentence_and_left_as_it_was(
    method: str, family: str, reason: str
) -> None:
    network = small_network(family)
    before = {name: values.clone() for name, values in network.state_dict().items()}
    images = draw(1, 3, 64, 64)
    sentence = why_not(network, images, method)
    assert reason in sentence
    assert "--method integrated-gradients" in sentence
    assert all(torch.equal(before[name], values) for name, values in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


class Shared(nn.Module):
    """The same convolution twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 3, 1), nn.Linear(3, 2)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.head(torch.relu(self.conv(torch.relu(self.conv(images)))).mean(dim=(2, 3)))
        return out


def test_a_layer_that_runs_twice_has_no_layerwise_relevance() -> None:
    assert "'conv' runs more than once" in why_not(Shared(), draw(1, 3, 8, 8), LRP)


def test_auto_takes_the_first_method_that_explains_all_networks() -> None:
    plain, vit = seeded(lambda: PlainNet((6, 8), 4)), small_network("vit")
    images = draw(1, 3, 64, 64)
    assert choose_method("auto", [(plain, images, None), (small_network("resnet"), images, None)]) == LRP
    assert choose_method("auto", [(vit, images, [0, 2]), (vit, images, None)]) == ATTENTION
    assert choose_method("auto", [(vit, images, None), (plain, images, None)]) == IG


def test_an_unknown_method_and_one_that_does_not_fit_are_refused() -> None:
    plain, images = seeded(lambda: PlainNet((6, 8), 4)), draw(1, 3, 16, 16)
    with pytest.raises(UsageError, match="method cannot be 'lpr'"):
        choose_method("lpr", [(plain, images, None)])
    with pytest.raises(UsageError, match="it has no attention"):
        choose_method(ATTENTION, [(plain, images, None)])
