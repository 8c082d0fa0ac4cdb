import pytest
import timm
import torch

from edgedistill.models.student import build_student
from edgedistill.networks.cost import count_cost
from edgedistill_deploy.errors import UsageError


def parameters(name: str, width: float = 1.0) -> int:
    return int(sum(each.numel() for each in build_student(name, 10, width=width).parameters()))


@pytest.mark.parametrize("name", ["resnet10t", "resnet26", "convnext_atto", "vit_tiny_patch16_224"])
def test_half_the_width_is_about_a_quarter_of_the_parameters(name: str) -> None:
    width = 2 / 3 if name.startswith("vit") else 0.5
    share = parameters(f"timm:{name}", width=width) / parameters(f"timm:{name}")
    assert width**2 * 0.85 < share < width**2 * 1.3


def test_a_narrow_student_still_classifies() -> None:
    student = build_student("timm:resnet10t", 7, width=0.1875).eval()
    assert student(torch.zeros(2, 3, 64, 64)).shape == (2, 7)


def test_the_seed_fixes_the_weights_and_leaves_torchs_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = build_student("resnet10t", 3, width=0.25, seed=1)
    assert torch.equal(torch.rand(1), expected)
    again = build_student("resnet10t", 3, width=0.25, seed=1)
    other = build_student("resnet10t", 3, width=0.25, seed=2)
    assert torch.equal(first.fc.weight, again.fc.weight)  # type: ignore[arg-type, union-attr]
    assert not torch.equal(first.fc.weight, other.fc.weight)  # type: ignore[arg-type, union-attr]


def test_a_plain_student_is_as_large_as_its_name_says() -> None:
    stages = [(3, 16), (16, 12), (12, 8), (8, 8)]
    convolutions = sum(9 * (inputs * outputs + outputs * outputs) + 4 * outputs for inputs, outputs in stages)
    assert parameters("plain:16-12-8-8") == convolutions + 8 * 10 + 10
    hidden = (4 * 8 + 1) * 20 + (20 + 1) * 6 + (6 + 1) * 10
    assert parameters("plain:16-12-8-8/20-6") == convolutions + hidden


def test_only_a_head_with_hidden_layers_tells_where_something_is() -> None:
    corner, centre = torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64)
    corner[..., 16:20, 16:20], centre[..., 40:44, 40:44] = 1, 1
    for name, tells in (("plain:4-4", False), ("plain:4-4/8", True)):
        student = build_student(name, 3).eval()
        same = torch.allclose(student(corner), student(centre), atol=1e-6)
        assert same is not tells


@pytest.mark.parametrize(
    ("name", "width", "message"),
    [
        ("plain:16", 1.0, "named by the widths of its stages, such as plain:32-24-16-8"),
        ("plain:16-8/", 1.0, "after a slash by those of its head's hidden layers"),
        ("plain:16-8/9-0", 1.0, "and 'plain:16-8/9-0' was given"),
        ("timm:resnet10tt", 1.0, "timm has no model 'resnet10tt'.*Did you mean"),
        ("timm:resnet10t", 0.0, "factor above 0"),
        ("timm:mobilenetv4_conv_small", 0.4, "choose a narrower model by name.*mobilenetv4_conv_small_0"),
    ],
)
def test_what_cannot_be_built_is_refused(name: str, width: float, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_student(name, 10, width=width)


def test_cost_is_what_a_count_by_hand_gives() -> None:
    model = timm.create_model("resnet10t", num_classes=10, channels=(8, 16, 32, 64), stem_width=4)
    seen = []

    def count(module: torch.nn.Module, _: object, output: torch.Tensor) -> None:
        if isinstance(module, torch.nn.Conv2d):
            seen.append(module.weight.numel() * output.shape[2] * output.shape[3])
        if isinstance(module, torch.nn.Linear):
            seen.append(module.weight.numel())

    hooks = [module.register_forward_hook(count) for module in model.modules()]
    model.train()
    cost = count_cost(model, (64, 64))
    for hook in hooks:
        hook.remove()
    assert cost.multiply_adds == sum(seen)
    assert cost.parameters == sum(each.numel() for each in model.parameters())
    assert model.training
