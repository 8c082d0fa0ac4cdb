import itertools
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgedistill.networks.layers import as_map, capture, map_shapes, maps_and_contexts, resolve_layer
from edgedistill.networks.pairing import pair_layers
from edgedistill_deploy.errors import EdgeDistillError, UsageError
from reference.small_networks import small_network


class Overwriting(nn.Module):
    """Writes over the output of every layer: by an in-place activation, by `+=`, by clearing it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.relu = nn.ReLU(inplace=True)
        self.added = nn.Conv2d(4, 4, 1)
        self.cleared = nn.Conv2d(4, 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        features = self.relu(self.conv(images))
        total = self.added(features)
        total += features
        gone = self.cleared(total)
        kept = gone * 1.0
        gone.zero_()
        pooled: Tensor = kept.mean((2, 3))
        return pooled


class Plain(nn.Module):
    """Three stages without any declaration, among them a container that never runs itself."""

    def __init__(self, widths: tuple[int, ...] = (4, 6, 8)) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, 2, 1), nn.LeakyReLU(inplace=True))
            for before, after in zip((3, *widths), widths, strict=False)
        )
        self.head = nn.Linear(widths[-1], 5)

    def forward(self, images: Tensor) -> Tensor:
        for stage in self.stages:
            images = stage(images)
        logits: Tensor = self.head(images.mean((2, 3)))
        return logits


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.unused = nn.Conv2d(3, 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        return torch.as_tensor(self.conv(self.conv(images))).mean((2, 3))


class Pair(nn.Module):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images * 2, images.mean((2, 3))


def hook_count(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def images(count: int = 2, size: int = 8) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_layers_are_found_by_dotted_name() -> None:
    model = Plain()
    assert resolve_layer(model, "stages.1.0") is model.stages[1][0]  # type: ignore[index]


@pytest.mark.parametrize("name", ["stages.1.9", "stage.1", ""])
def test_an_unknown_layer_is_answered_with_the_nearest(name: str) -> None:
    with pytest.raises(UsageError, match=rf"Plain has no layer '{name}'\. (Did you mean stages\.|Known: stages)"):
        resolve_layer(Plain(), name)


@pytest.mark.parametrize("name", ["conv", "added", "cleared"])
def test_a_captured_output_is_what_the_layer_returned_whatever_happens_to_it_later(name: str) -> None:
    torch.manual_seed(0)
    model = Overwriting()
    seen: list[Tensor] = []
    handle = resolve_layer(model, name).register_forward_hook(lambda _, __, out: seen.append(out.detach().clone()))
    plain = model(images())
    handle.remove()
    with capture(model, [name]) as outputs:
        logits = model(images())
    captured = outputs[name]
    assert isinstance(captured, Tensor)
    assert torch.equal(captured, seen[0])
    assert torch.equal(logits, plain)
    gradient, weight = torch.autograd.grad(logits.sum(), [captured, model.conv.weight])
    model.relu.inplace = False
    (expected,) = torch.autograd.grad(model(images()).sum(), [model.conv.weight])
    assert bool(gradient.any())
    torch.testing.assert_close(weight, expected)


def test_gradients_at_a_layer_that_is_written_over_are_those_at_the_layer() -> None:
    torch.manual_seed(0)
    model = Overwriting()
    (found, context) = maps_and_contexts(model, ["conv"], images(), lambda logits: logits.square().sum())["conv"]
    value = model.conv(images()).detach().requires_grad_()
    features = value.relu()
    logits = model.cleared(model.added(features) + features).mean((2, 3))
    (expected,) = torch.autograd.grad(logits.square().sum(), [value])
    torch.testing.assert_close(found, value.detach())
    torch.testing.assert_close(context, expected)


def test_hooks_are_gone_after_the_block_and_after_an_exception() -> None:
    model = Plain()
    with capture(model, ["stages.0", "head"]) as outputs:
        model(images())
        assert hook_count(model) > 0
    assert hook_count(model) == 0
    assert set(outputs) == {"stages.0", "head"}
    with pytest.raises(RuntimeError, match="channels"), capture(model, ["stages.0"]):
        model(torch.zeros(1, 4, 8, 8))
    assert hook_count(model) == 0
    with pytest.raises(UsageError, match="no layer 'nope'"), capture(model, ["stages.0", "nope"]):
        pass
    assert hook_count(model) == 0


def test_blocks_nest_and_every_forward_pass_replaces_the_outputs() -> None:
    model = Plain()
    with capture(model, ["stages.0"]) as outer, capture(model, ["stages.0", "head"]) as inner:
        model(images(2))
        first = outer["stages.0"]
        model(images(3))
    assert isinstance(first, Tensor)
    assert len(first) == 2
    assert torch.equal(torch.as_tensor(outer["stages.0"]), torch.as_tensor(inner["stages.0"]))
    assert len(torch.as_tensor(inner["head"])) == 3


def test_no_names_capture_nothing() -> None:
    model = Plain()
    with capture(model, []) as outputs:
        model(images())
    assert outputs == {}


def test_a_layer_that_runs_twice_or_never_is_named() -> None:
    with pytest.raises(EdgeDistillError, match="'conv' runs more than once in a forward pass"):
        map_shapes(Recurrent(), ["conv"], (8, 8))
    with pytest.raises(EdgeDistillError, match="'stages' did not run in the forward pass"):
        map_shapes(Plain(), ["stages"], (8, 8))


def test_of_a_tuple_the_first_element_counts_and_the_network_gets_all() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), Pair())
    with capture(model, ["1"]) as outputs:
        result = model(images())
    assert as_map(outputs["1"], model, "1").shape == (2, 4, 8, 8)
    assert isinstance(result, tuple)
    context = maps_and_contexts(model, ["1"], images(), lambda outputs: outputs[0].sum())["1"][1]
    assert torch.equal(context, torch.ones(2, 4, 8, 8))


def test_convolutional_maps_stay_and_pooled_features_are_one_position() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert map_shapes(model, ["0", "2"], (6, 8)) == {"0": (4, 6, 8), "2": (4, 1, 1)}


def test_channels_last_maps_are_permuted_but_not_those_of_convolutions_inside() -> None:
    model = small_network("swin")
    names = ["patch_embed", "patch_embed.proj", "layers.0.blocks.0", "layers.0.blocks.0.mlp.fc1", "layers.1"]
    shapes = map_shapes(model, names, (64, 64))
    assert list(shapes.values()) == [(8, 32, 32), (8, 32, 32), (8, 32, 32), (32, 32, 32), (16, 16, 16)]


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 5), st.booleans())
@settings(max_examples=30, deadline=None)
def test_tokens_lose_their_prefix_and_fold_row_by_row(height: int, width: int, prefix: int, known: bool) -> None:
    model = nn.Module()
    model.num_prefix_tokens = prefix  # type: ignore[assignment]
    if known or height != width:
        model.patch_embed = SimpleNamespace(grid_size=(height, width))  # type: ignore[assignment]
    grid = torch.arange(2.0 * 3 * height * width).reshape(2, 3, height, width)
    tokens = torch.cat([torch.full((2, prefix, 3), -1.0), grid.flatten(2).transpose(1, 2)], dim=1)
    assert torch.equal(as_map(tokens, model, "blocks.0"), grid)


def test_tokens_before_the_prefix_is_added_fold_too() -> None:
    shapes = map_shapes(small_network("deit"), ["patch_embed", "blocks.0", "blocks.5"], (64, 64))
    assert set(shapes.values()) == {(24, 8, 8)}


def test_a_class_token_that_is_not_counted_by_the_model_is_dropped() -> None:
    model = nn.Module()
    model.class_token = nn.Parameter(torch.zeros(1, 1, 3))
    assert as_map(torch.zeros(2, 17, 3), model, "encoder").shape == (2, 3, 4, 4)


def test_tokens_of_later_stages_fold_to_a_coarser_grid_of_the_stated_aspect() -> None:
    model = nn.Module()
    model.patch_embed = SimpleNamespace(grid_size=(5, 12))  # type: ignore[assignment]
    grid = torch.arange(18.0).reshape(1, 1, 3, 6)
    assert torch.equal(as_map(grid.flatten(2).transpose(1, 2), model, "stages.1"), grid)


def test_a_grid_passed_on_beside_the_tokens_folds_them_and_their_gradients() -> None:
    model = Sized()
    assert map_shapes(model, ["tokens"], (2, 8)) == {"tokens": (3, 2, 8)}
    batch = torch.randn(2, 3, 2, 8)
    found, context = maps_and_contexts(model, ["tokens"], batch, lambda out: (out * batch).sum())["tokens"]
    torch.testing.assert_close(found, batch)
    torch.testing.assert_close(context, batch)


class Tokens(nn.Module):
    def forward(self, images: Tensor) -> tuple[Tensor, list[int]]:
        return images.flatten(2).transpose(1, 2), [images.shape[2], images.shape[3]]


class Sized(nn.Module):
    """Passes on its grid with its tokens, as MViT does; the output is the images again."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.tokens = Tokens()

    def forward(self, images: Tensor) -> Tensor:
        tokens, (height, width) = self.tokens(images)
        folded: Tensor = tokens.transpose(1, 2).unflatten(2, (height, width))
        return folded * self.scale


class Flattened(nn.Module):
    """A stem, then a stack of token blocks that states neither a grid nor its features."""

    def __init__(self, depth: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 4, 4)
        self.blocks = nn.Sequential(*(nn.Linear(4, 4) for _ in range(depth)))

    def forward(self, images: Tensor) -> Tensor:
        pooled: Tensor = self.blocks(self.stem(images).flatten(2).transpose(1, 2)).mean(1)
        return pooled


def test_tokens_without_a_stated_grid_are_no_square_of_a_rectangular_image() -> None:
    assert map_shapes(Flattened(), ["blocks.1"], (16, 16)) == {"blocks.1": (4, 4, 4)}
    with pytest.raises(
        EdgeDistillError, match=r"'blocks\.1' were folded to 4 x 4, which images of 8 x 32 pixels do not give"
    ):
        map_shapes(Flattened(), ["blocks.1"], (8, 32))


def test_a_grid_stated_for_images_of_another_shape_is_not_believed() -> None:
    model = Flattened()
    model.patch_embed = SimpleNamespace(grid_size=(4, 4))  # type: ignore[assignment]
    assert map_shapes(model, ["blocks.1"], (16, 16)) == {"blocks.1": (4, 4, 4)}
    with pytest.raises(EdgeDistillError, match=r"'blocks\.1' were folded to 4 x 4"):
        map_shapes(model, ["blocks.1"], (8, 32))


class Windowed(nn.Module):
    """Cuts its images into four windows, as attention over windows does, and puts the results together again."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Conv2d(3, 4, 1)
        self.after = nn.Conv2d(4, 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        windows = self.inside(torch.cat(images.chunk(4, dim=3)))
        pooled: Tensor = self.after(torch.cat(windows.chunk(4), dim=3)).mean((2, 3))
        return pooled


def test_a_layer_inside_windows_is_named() -> None:
    model = Windowed()
    assert map_shapes(model, ["after"], (8, 8)) == {"after": (4, 8, 8)}
    with pytest.raises(EdgeDistillError, match=r"layer 'inside' returns 4 maps for 1 images"):
        map_shapes(model, ["inside"], (8, 8))
    with pytest.raises(EdgeDistillError, match=r"layer 'inside' returns 8 maps for 2 images"):
        maps_and_contexts(model, ["inside"], images(), torch.sum)
    assert {pair.teacher for pair in pair_layers(model, Plain((4,)), (8, 8))} == {"after"}


def test_undeclared_token_blocks_are_paired_at_even_depths() -> None:
    pairs = pair_layers(Flattened(), Plain(), (32, 32))
    assert [pair.teacher for pair in pairs] == ["blocks.1", "blocks.4", "blocks.7"]
    assert [pair.student for pair in pairs] == ["stages.0", "stages.1", "stages.2"]


def test_of_a_tuple_the_tensor_with_the_declared_channels_counts() -> None:
    model = nn.Module()
    model.feature_info = [{"module": "blocks.0", "num_chs": 6, "reduction": 4}]  # type: ignore[assignment]
    pixels, patches = torch.zeros(8, 4, 3), torch.arange(24.0).reshape(1, 4, 6)
    found = as_map((pixels, patches), model, "blocks.0")
    assert torch.equal(found, patches.transpose(1, 2).reshape(1, 6, 2, 2))
    assert as_map((pixels, patches), model, "blocks.1").shape == (8, 3, 2, 2)


@pytest.mark.parametrize("declared", [True, False])
def test_channels_last_is_read_from_declared_channels_or_from_the_layers_own_weights(declared: bool) -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(5, 7)), nn.Sequential(nn.Conv2d(5, 8, 1)), nn.Identity())
    if declared:
        model.feature_info = [{"module": "2", "num_chs": 7, "reduction": 1}]  # type: ignore[assignment]
    last = torch.arange(2 * 3 * 4 * 7.0).reshape(2, 3, 4, 7)
    assert torch.equal(as_map(last, model, "2" if declared else "0"), last.permute(0, 3, 1, 2))
    # A convolution writes channels first, even where its width is the map's as well.
    first = torch.zeros(2, 9, 4, 8)
    assert as_map(first, model, "1") is first


def test_tokens_that_do_not_fold_are_named() -> None:
    model = nn.Module()
    model.num_prefix_tokens = 2  # type: ignore[assignment]
    with pytest.raises(
        EdgeDistillError, match=r"The 9000 tokens of layer 'blocks\.1', 2 of them a prefix, do not fold"
    ):
        as_map(torch.zeros(1, 9000, 1), model, "blocks.1")


@pytest.mark.parametrize(
    ("output", "described"),
    [
        (torch.zeros(2), r"shape \(2,\)"),
        (torch.zeros(1, 2, 3, 4, 5), r"shape \(1, 2, 3, 4, 5\)"),
        ((), "a tuple"),
        (None, "a NoneType"),
    ],
)
def test_an_output_that_is_no_map_is_named(output: object, described: str) -> None:
    with pytest.raises(EdgeDistillError, match=rf"output of layer 'conv' \({described}\) cannot be read as a map"):
        as_map(output, Recurrent(), "conv")  # type: ignore[arg-type]


def test_tracing_shapes_leaves_running_statistics_and_modes_alone() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout()).train()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    map_shapes(model, ["1"], (8, 8))
    assert model.training
    assert model[1].training
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_a_plain_network_is_paired_at_its_last_layer_of_each_size() -> None:
    pairs = pair_layers(Plain((4, 6, 8)), Plain((8, 12, 6)), (32, 32))
    assert [(pair.teacher, pair.student) for pair in pairs] == [
        (f"stages.{stage}", f"stages.{stage}") for stage in range(3)
    ]


def test_networks_of_other_depths_are_paired_where_their_maps_agree() -> None:
    teacher, student = Plain((4, 6, 8)), Plain((4, 6, 8, 8, 8))
    pairs = pair_layers(teacher, student, (64, 64))
    shapes = [
        map_shapes(model, [name], (64, 64))[name][1:]
        for pair in pairs
        for model, name in ((teacher, pair.teacher), (student, pair.student))
    ]
    assert len(pairs) == 3
    assert shapes[::2] == shapes[1::2]


def test_only_four_layers_are_paired_and_those_the_deepest() -> None:
    pairs = pair_layers(Plain((4,) * 6), Plain((4,) * 6), (64, 64))
    assert [pair.teacher for pair in pairs] == ["stages.2", "stages.3", "stages.4", "stages.5"]


class Declared(nn.Module):
    """Three stages, then a block and an operation that change nothing, with whatever declarations a test gives."""

    def __init__(self, *declared: tuple[str, int, int]) -> None:
        super().__init__()
        self.net = Plain()
        self.echo = nn.Sequential(nn.Identity())
        self.norm = nn.Identity()
        self.feature_info = [
            {"module": name, "num_chs": channels, "reduction": reduction} for name, channels, reduction in declared
        ]

    def forward(self, images: Tensor) -> Tensor:
        for stage in self.net.stages:
            images = stage(images)
        logits: Tensor = self.net.head(self.norm(self.echo(images)).mean((2, 3)))
        return logits


@pytest.mark.parametrize(
    ("declared", "meant"),
    [
        ([("net.stages.0", 4, 2), ("net.stages.2", 8, 8)], ["net.stages.0", "net.stages.2"]),
        ([("block.0", 4, 2), ("block.1", 6, 4)], ["net.stages.0", "net.stages.1"]),  # no such modules
        ([("net", 6, 4), ("net", 8, 8)], ["net.stages.1", "net.stages.2"]),  # never runs itself
        ([("net.stages.0", 6, 4)], ["net.stages.1"]),  # returns something else
        ([("gone", 8, 8)], ["echo"]),  # a block rather than the operation after it
        ([("net.stages.1", 6, 4), ("net.stages.1", 8, 8)], ["net.stages.1"]),  # declared twice
        ([("gone", 5, 2), ("net.stages.2", 8, 8)], ["net.stages.2"]),  # nothing like it
    ],
)
def test_declarations_are_checked_against_what_the_layers_return(
    declared: list[tuple[str, int, int]], meant: list[str]
) -> None:
    pairs = pair_layers(Declared(*declared), Plain(), (32, 32))
    assert [pair.teacher for pair in pairs] == meant


def test_a_network_inside_another_declares_its_own_stages() -> None:
    model = nn.Sequential(small_network("resnet"))
    pairs = pair_layers(model, Plain((4, 4, 4, 4, 4)), (64, 64))
    assert [pair.teacher for pair in pairs] == ["0.layer1", "0.layer2", "0.layer3", "0.layer4"]
    assert [pair.student for pair in pairs] == ["stages.1", "stages.2", "stages.3", "stages.4"]


def test_a_hybrid_pairs_its_convolutional_stages_with_a_network_of_stages_and_its_blocks_with_a_transformer() -> None:
    hybrid = Hybrid()
    by_size = pair_layers(hybrid, Plain((4, 4, 4, 4)), (64, 64))
    assert [pair.teacher for pair in by_size] == ["net.stages.0", "net.stages.1", "net.stages.2", "blocks.7"]
    as_student = pair_layers(Plain((4, 4, 4, 4)), hybrid, (64, 64))
    assert [pair.student for pair in as_student] == ["net.stages.0", "net.stages.1", "net.stages.2", "blocks.7"]
    by_depth = pair_layers(hybrid, small_network("vit"), (64, 64))
    assert [pair.teacher for pair in by_depth] == ["blocks.1", "blocks.3", "blocks.5", "blocks.7"]


class Hybrid(Declared):
    """Three convolutional stages, then eight blocks at half their size."""

    def __init__(self) -> None:
        stages = [(f"net.stages.{depth}", width, 2 << depth) for depth, width in enumerate((4, 6, 8))]
        super().__init__(*stages, *((f"blocks.{depth}", 8, 16) for depth in range(8)))
        self.shrink = nn.MaxPool2d(2)
        self.blocks = nn.Sequential(*(nn.Conv2d(8, 8, 1) for _ in range(8)))

    def forward(self, images: Tensor) -> Tensor:
        for stage in self.net.stages:
            images = stage(images)
        logits: Tensor = self.blocks(self.shrink(images)).mean((2, 3))
        return logits


def test_a_shallow_student_is_taught_by_the_teachers_deepest_stages() -> None:
    pairs = pair_layers(Plain((4,) * 5), Plain((4, 4)), (64, 64))
    assert [(pair.teacher, pair.student) for pair in pairs] == [("stages.3", "stages.0"), ("stages.4", "stages.1")]


def test_a_network_without_maps_cannot_be_paired() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    with pytest.raises(EdgeDistillError, match="Sequential has no layer whose output is a map"):
        pair_layers(flat, Plain(), (8, 8))


def test_blocks_of_a_transformer_are_paired_at_even_depths_but_not_the_last_one() -> None:
    pairs = pair_layers(small_network("vit"), small_network("resnet"), (64, 64))
    depths = [int(pair.teacher.removeprefix("blocks.")) for pair in pairs]
    assert [pair.student for pair in pairs] == ["layer1", "layer2", "layer3", "layer4"]
    # After block 5, the last, only the class token is read.
    assert depths[-1] == 4
    assert all(1 <= later - earlier <= 2 for earlier, later in itertools.pairwise(depths))


def test_pairing_leaves_both_networks_alone() -> None:
    teacher, student = small_network("resnet").train(), small_network("vit").eval().requires_grad_(False)
    pair_layers(teacher, student, (64, 64))
    assert teacher.training
    assert not student.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in teacher.parameters())
    assert not any(parameter.requires_grad for parameter in student.parameters())
    assert hook_count(teacher) == hook_count(student) == 0
