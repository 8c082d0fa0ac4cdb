"""How a shrunk network is described: timm's architecture, and the layers and tensors that are smaller than there.

The description is plain JSON values, so that a run folder gives the network back without its teacher and without
unpickling anything. Neither torch-pruning nor an image is needed for that.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import timm
import torch
from torch import Tensor, nn

from edgedistill.models import small_images  # noqa: F401  # enters its model into timm's registry
from edgedistill.models.libraries.messages import first_line
from edgedistill.models.libraries.timm_models import set_image_size
from edgedistill.models.student import scale_channels
from edgedistill.networks.layers import map_shapes
from edgedistill.networks.maps import find_declared_features
from edgedistill_deploy.errors import BundleError, EdgeDistillError

# The attributes of torch's layers that say how many channels there are.
_COUNTS = ("in_channels", "out_channels", "groups", "in_features", "out_features", "num_features", "num_channels")
_SIZES = ("normalized_shape",)
# Arguments of timm's constructors that read files or weights, and the number of classes; no description holds them.
NEVER_RECORDED = (
    "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "features_only",
    "num_classes",
)  # fmt: skip

Layers = Mapping[str, Mapping[str, int | Sequence[int]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShrunkShape:
    """A network of timm whose layers have fewer channels than timm gives them.

    Attributes:
        architecture: timm's name, without a tag.
        arguments: for timm's constructor, but for the number of classes.
        share: the part of every group's channels that is left.
        channels: by what they were chosen.
        layers: {module: {attribute: value}} where a value differs from timm's network.
        tensors: {tensor: shape} likewise, with 0 for an axis that is as long as there (that of the classes is).
    """

    architecture: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    share: float
    channels: str
    layers: Layers
    tensors: Mapping[str, Sequence[int]]

    @classmethod
    def between(
        cls, full: nn.Module, shrunk: nn.Module, architecture: str, arguments: Mapping[str, Any], share: float, by: str
    ) -> "ShrunkShape":
        """Describe a network by what is smaller in it than in the full one."""
        modules = dict(shrunk.named_modules())
        layers = {
            name: changed
            for name, module in full.named_modules()
            if name in modules and (changed := _changed(module, modules[name]))
        }
        before = full.state_dict()
        tensors = {
            name: tuple(0 if new == old else new for new, old in zip(tensor.shape, before[name].shape, strict=True))
            for name, tensor in shrunk.state_dict().items()
            if tensor.shape != before[name].shape
        }
        return cls(
            architecture=architecture, arguments=arguments, share=share, channels=by, layers=layers, tensors=tensors
        )

    def to_json(self) -> dict[str, Any]:
        """Return the manifest's record."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Any) -> "ShrunkShape":
        """Read what `to_json` returns. Raises BundleError for another record."""
        try:
            found = cls(
                architecture=str(record["architecture"]),
                arguments=dict(record["arguments"]),
                share=float(record["share"]),
                channels=str(record["channels"]),
                layers={str(name): dict(each) for name, each in dict(record["layers"]).items()},
                tensors={str(name): tuple(map(int, each)) for name, each in dict(record["tensors"]).items()},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(f"it has no readable {first_line(error)}") from error
        if refused := sorted(set(found.arguments) & set(NEVER_RECORDED)):
            raise _damaged(f"it gives {refused[0]}")
        return found

    def build(self, class_count: int, image_size: tuple[int, int], seed: int = 0) -> nn.Module:
        """Build the untrained network with C outputs, for images of `image_size` (H, W).

        `seed` fixes the weights; torch's own generator does not change.

        Raises:
            BundleError: timm has no such network, or it has no such layers.
        """
        if not timm.is_model(self.architecture):
            raise _damaged(f"timm has no model {self.architecture!r}")
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            try:
                network: nn.Module = timm.create_model(
                    self.architecture, pretrained=False, num_classes=class_count, **self.arguments
                )
            except Exception as error:  # timm's constructors raise any kind for arguments that they do not know
                raise _damaged(f"timm cannot build {self.architecture!r}: {first_line(error)}") from error
        set_image_size(network, image_size)
        self._narrow(network)
        renew_features(network, image_size)
        return note_shape(network, self)

    def _narrow(self, network: nn.Module) -> None:
        modules, tensors = dict(network.named_modules()), network.state_dict()
        for name, attributes in self.layers.items():
            for attribute, value in attributes.items():
                _set_count(modules.get(name), name, attribute, value)
        for name, shape in self.tensors.items():
            if name not in tensors:
                raise _damaged(f"{self.architecture} has no tensor {name!r}")
            _set_tensor(network, name, tensors[name], shape)


def count_kept(count: int, share: float, blocks: int = 1) -> int:
    """Return how many of a group's channels stay: `share`, in each block alike.

    From 16 on they are a multiple of 8, because a kernel computes 8 at once, and else of 4.
    """
    if blocks == 1:
        return min(count, scale_channels(count, share, 8 if count * share >= 16 else 4))
    return blocks * min(count // blocks, scale_channels(count // blocks, share, 1))


def note_shape(network: nn.Module, shape: ShrunkShape) -> nn.Module:
    """Note in a network how it was shrunk, for the manifest of its bundle; return it."""
    network.shrunk_shape = shape  # type: ignore[assignment]  # a note, neither tensor nor module
    return network


def noted_shape(network: nn.Module) -> ShrunkShape | None:
    """Return how a network was shrunk, None for all others."""
    found = getattr(network, "shrunk_shape", None)
    return found if isinstance(found, ShrunkShape) else None


def renew_features(network: nn.Module, image_size: tuple[int, int]) -> None:
    """Correct the widths that a network of timm declares for the ends of its stages, so that layers pair by them."""
    declared: Any = getattr(network, "feature_info", None)
    entries = getattr(declared, "info", declared)
    if not isinstance(entries, list):
        return
    known = {each.name for each in find_declared_features(network)}
    for entry in entries:
        with contextlib.suppress(EdgeDistillError):  # timm declares some names that are no layers
            if entry["module"] in known:
                entry["num_chs"] = map_shapes(network, [entry["module"]], image_size)[entry["module"]][0]


def _changed(full: nn.Module, shrunk: nn.Module) -> dict[str, int | tuple[int, ...]]:
    return {name: value for name, value in _counts(shrunk) if getattr(full, name, value) != value}


def _counts(module: nn.Module) -> Iterator[tuple[str, int | tuple[int, ...]]]:
    for name in (*_COUNTS, *_SIZES):
        value = vars(module).get(name)  # what is computed from others is no number of its own
        if isinstance(value, int):
            yield name, value
        elif name in _SIZES and value is not None:
            yield name, tuple(value)


def _set_count(module: nn.Module | None, layer: str, name: str, value: Any) -> None:
    """Set a count that is smaller than the present one, and nothing else."""
    before = dict(_counts(module)).get(name) if module is not None else None
    if module is None or before is None:
        raise _damaged(f"there is no {name} of a layer {layer!r}")
    new = tuple(value) if isinstance(before, tuple) and isinstance(value, (list, tuple)) else value
    if not _is_smaller(new, before):
        raise _damaged(f"{layer}.{name} is {value!r}")
    setattr(module, name, new)


def _is_smaller(new: Any, before: int | tuple[int, ...]) -> bool:
    if isinstance(before, int):
        return isinstance(new, int) and 0 < new <= before
    numbers = isinstance(new, tuple) and len(new) == len(before) and all(isinstance(each, int) for each in new)
    return numbers and all(0 < each <= most for each, most in zip(new, before, strict=True))


def _set_tensor(network: nn.Module, name: str, tensor: Tensor, shape: Sequence[int]) -> None:
    """Put the leading corner of a parameter or buffer in its place; a size of 0 is that of the tensor."""
    if len(shape) != tensor.ndim or not _is_smaller(
        shape := tuple(new or old for new, old in zip(shape, tensor.shape, strict=True)), tuple(tensor.shape)
    ):
        raise _damaged(f"{name} is of shape {tuple(shape)}")
    owner, _, own = name.rpartition(".")
    module = network.get_submodule(owner)
    corner = tensor[tuple(slice(size) for size in shape)].clone()
    if own in dict(module.named_parameters(recurse=False)):
        # The spread of new weights goes with the number of inputs, and there are fewer.
        fewer = math.prod(shape[1:]) / math.prod(tensor.shape[1:]) if tensor.ndim > 1 else 1.0
        setattr(module, own, nn.Parameter(corner / math.sqrt(fewer)))
    else:
        setattr(module, own, corner)


def _damaged(why: str) -> BundleError:
    return BundleError(
        f"The description of the shrunk teacher in the manifest cannot be used: {why}; distil again with --restart."
    )
