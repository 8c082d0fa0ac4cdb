"""How fragile a float student is before INT8: its weights' spread, its activations' outliers, the noise of 8 bits."""

import abc
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from edgedistill.compute.parts import parts_of
from edgedistill.data.loader import open_loader
from edgedistill.models.normalise import normalise_of
from edgedistill.models.teacher import Teacher
from edgedistill.networks.modes import evaluating
from edgedistill.networks.tensor_calls import WEIGHTED, CallKey, TensorCalls
from edgedistill.quantisation.fake_quantisation import round_weight
from edgedistill_deploy.images.sets import ImageSet

SAMPLES = 128  # images; ranges and noise of a layer change little with more
BATCH = FEWEST_SAMPLES = 32
# As many as 128 images of 64 pixels have; a larger image has more positions, each of which tells as much.
PIXELS = SAMPLES * 64 * 64
# Signal to noise of one layer's output, in dB. Below it students lost a point of accuracy or more, above it less
# (benchmarks/readiness.py, docs/artefacts.md).
LAYER_THRESHOLD_DB = 20.0
NETWORK_THRESHOLD_DB = 10.0  # the same for the sum of all layers' noises
PERCENTILE = 0.999
# Bins of |x|, a sixteenth of an octave each, from 2^-40 to 2^40: they give a percentile to within 4.5 %.
_OCTAVES, _PER_OCTAVE = 40, 16
_TINY = 1e-30
_NORM_ARGUMENTS = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerReadiness:
    """One convolution or linear layer, its batch norm folded in.

    Attributes:
        name: of the module, or of the call where its weight is computed.
        kind: `conv2d`, `depthwise conv2d`, `linear`, ...
        weight_spread: the largest channel's largest weight over that of the median channel.
        input_outliers: the largest input, absolute, over the 99.9th percentile.
        input_channel_spread: the widest channel's range over that of the median channel.
        input_snr_db: signal over noise of the input in 8 bits, with one scale for all channels.
        weight_snr_db: the same for the weights, with one scale for each output channel.
        output_snr_db: the same for the layer's output when only its input and weights are rounded.
    """

    name: str
    kind: str
    weight_spread: float
    input_outliers: float
    input_channel_spread: float
    input_snr_db: float
    weight_snr_db: float
    output_snr_db: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """A student's layers in the order they run, and the signal over the sum of their noises.

    A layer is fragile below `threshold_db`, and the network is fragile below `network_threshold_db`.
    """

    image_count: int
    layers: tuple[LayerReadiness, ...]
    network_snr_db: float
    threshold_db: float = LAYER_THRESHOLD_DB
    network_threshold_db: float = NETWORK_THRESHOLD_DB

    @property
    def fragile_layers(self) -> tuple[LayerReadiness, ...]:
        """The layers below the threshold, the worst first."""
        below = [each for each in self.layers if each.output_snr_db < self.threshold_db]
        return tuple(sorted(below, key=lambda each: each.output_snr_db))

    @property
    def verdict(self) -> str:
        """`ready` or `fragile`."""
        fragile = self.fragile_layers or self.network_snr_db < self.network_threshold_db
        return "fragile" if fragile else "ready"

    def sentence(self) -> str:
        """Say the verdict, and name the worst layers."""
        if not self.layers:
            return "INT8 readiness: the student has no convolution or linear layer."
        worst = min(self.layers, key=lambda each: each.output_snr_db)
        whole = f"{self.network_snr_db:.1f} dB over all layers"
        if self.verdict == "ready":
            return f"INT8 readiness: ready; {whole}, the worst layer {worst.name} at {worst.output_snr_db:.1f} dB."
        named = self.fragile_layers or (worst,)
        layers = ", ".join(f"{each.name} ({each.output_snr_db:.1f} dB, {_cause(each)})" for each in named[:3])
        more = f" and {len(named) - 3} more" if len(named) > 3 else ""
        return (
            f"INT8 readiness: fragile; {whole}, {layers}{more}. Expect calibrate to leave layers in float, or recover "
            "with `calibrate --recover N`."
        )

    def to_json(self) -> dict[str, Any]:
        """Return the manifest's record."""
        return {
            "verdict": self.verdict,
            "sentence": self.sentence(),
            "fragile": [each.name for each in self.fragile_layers],
            **asdict(self),
        }


def _cause(layer: LayerReadiness) -> str:
    """Say in a few words what makes a layer fragile."""
    if layer.weight_snr_db < layer.input_snr_db:
        return "weights of too different sizes in one channel"
    if layer.input_channel_spread >= layer.input_outliers:
        return f"input channels' ranges differ {layer.input_channel_spread:.0f} times"
    return f"largest input {layer.input_outliers:.0f} times the 99.9th percentile"


def readiness(student: nn.Module, teacher: Teacher, images: ImageSet, *, seed: int = 0, bits: int = 8) -> Readiness:
    """Measure how much INT8 will harm a float student, on a sample of training images that the seed decides.

    These are `SAMPLES` images, or fewer where they are large, but no fewer than `FEWEST_SAMPLES`.

    There are two passes over the sample: ranges, then the noise of rounding to them. Memory does not grow with the
    sample. The student does not change; the teacher's preprocessing is used, and its normalisation where the student
    has none of its own.
    """
    generator = torch.Generator().manual_seed(seed)
    count = min(SAMPLES, max(FEWEST_SAMPLES, PIXELS // math.prod(teacher.preprocess.size)))
    chosen = torch.randperm(len(images), generator=generator)[:count].sort().values.tolist()
    sample = images.select(chosen)
    layers: dict[CallKey, _Layer] = {}
    names = {id(parameter): name for name, parameter in student.named_parameters()}
    for watch in (_Ranges, _Noise):
        for batch in _batches(student, teacher, sample):
            with evaluating(student), torch.no_grad(), watch(layers, names, 2**bits - 1):
                student(batch)
    found = tuple(each.result() for each in layers.values())
    noise = sum(10 ** (-each.output_snr_db / 10) for each in found)
    return Readiness(image_count=len(sample), layers=found, network_snr_db=_decibels(1.0, noise))


def _batches(student: nn.Module, teacher: Teacher, images: ImageSet) -> Iterator[Tensor]:
    normalise = normalise_of(student, teacher.normalise())
    for pixels, _, _ in open_loader(images, teacher.preprocess, BATCH):
        yield from map(normalise, parts_of(pixels))


def _decibels(signal: float, noise: float) -> float:
    """Return 10 log10(signal / noise), at most 120: float32 cannot show less noise."""
    return min(120.0, 10 * math.log10(max(signal, _TINY) / max(noise, _TINY)))


@dataclass(slots=True, kw_only=True)
class _Layer:
    """Sums over batches, of one layer."""

    name: str
    kind: str
    weight_spread: float = 1.0
    low: Tensor = field(default_factory=lambda: torch.zeros(0))
    high: Tensor = field(default_factory=lambda: torch.zeros(0))
    histogram: Tensor = field(default_factory=lambda: torch.zeros(2 * _OCTAVES * _PER_OCTAVE))
    weight_snr_db: float = 0.0
    # Energy of the signal and of the noise.
    input_energy: Tensor = field(default_factory=lambda: torch.zeros(2))
    output_energy: Tensor = field(default_factory=lambda: torch.zeros(2))

    def see_input(self, values: Tensor) -> None:
        """Widen the channels' ranges (C,) and count absolute values."""
        channels = _by_channel(values, self.kind)
        low, high = channels.amin(1), channels.amax(1)
        self.low = low if not len(self.low) else torch.minimum(self.low, low)
        self.high = high if not len(self.high) else torch.maximum(self.high, high)
        exponents = (channels.abs().clamp_min(_TINY).log2() + _OCTAVES) * _PER_OCTAVE
        self.histogram += torch.histc(exponents, len(self.histogram), 0, len(self.histogram) - 1)

    def round_input(self, values: Tensor, levels: int) -> Tensor:
        """Round over the range seen, as ONNX Runtime rounds unsigned activations."""
        low, high = min(0.0, float(self.low.min())), max(0.0, float(self.high.max()))
        scale = (high - low) / levels or 1.0
        zero = max(0, min(levels, round(-low / scale)))
        return torch.fake_quantize_per_tensor_affine(values, scale, zero, 0, levels)

    def result(self) -> LayerReadiness:
        """Return the figures."""
        largest = torch.maximum(self.low.abs(), self.high.abs())
        return LayerReadiness(
            name=self.name,
            kind=self.kind,
            weight_spread=self.weight_spread,
            input_outliers=max(1.0, float(largest.max()) / max(self._percentile(), _TINY)),
            input_channel_spread=_spread(self.high.clamp_min(0) - self.low.clamp_max(0)),
            input_snr_db=_decibels(*self.input_energy.tolist()),
            weight_snr_db=self.weight_snr_db,
            output_snr_db=_decibels(*self.output_energy.tolist()),
        )

    def _percentile(self) -> float:
        share = self.histogram.cumsum(0) / self.histogram.sum().clamp_min(1)
        place = int((share < PERCENTILE).sum())
        return float(2 ** ((place + 1) / _PER_OCTAVE - _OCTAVES))


def _spread(maxima: Tensor) -> float:
    """Return the largest over the median; channels that are always 0 do not count."""
    alive = maxima[maxima > 0]
    return float(alive.max() / alive.median()) if len(alive) else 1.0


def _by_channel(values: Tensor, kind: str) -> Tensor:
    """Return (C, n): a linear layer has its channels last, a convolution second."""
    return values.flatten(0, -2).T if kind == "linear" else values.transpose(0, 1).flatten(1)


class _Watch(TensorCalls, abc.ABC):
    """Shows each layer, and the batch norm that directly follows it, to `see` and `see_norm`."""

    def __init__(self, layers: dict[CallKey, _Layer], names: Mapping[int, str], levels: int) -> None:
        super().__init__()
        self._layers, self._names = layers, names
        self.levels = levels
        # By the id of a layer's output, which this dict keeps alive.
        self._made: dict[int, tuple[_Layer, Tensor, Sequence[Any]]] = {}

    @abc.abstractmethod
    def see(self, layer: _Layer, args: Sequence[Any], result: Tensor) -> None:
        """Look at a layer called with `args`."""

    @abc.abstractmethod
    def see_norm(self, layer: _Layer, args: Sequence[Any], scale: Tensor, result: Tensor) -> None:
        """Look again at a layer called with `args`; `result` is its output scaled by `scale` (O,)."""

    def after(self, key: CallKey, args: Sequence[Any], result: Any) -> Any:
        """Find the layers among the calls."""
        if key.function in WEIGHTED:
            layer = self._layers.setdefault(key, _Layer(name=self._name(key, args), kind=_kind(key, args)))
            self._made[id(result)] = (layer, result, args)
            self.see(layer, args, result)
        elif key.function == "batch_norm" and id(args[0]) in self._made:
            layer, _, layer_args = self._made[id(args[0])]
            self.see_norm(layer, layer_args, _find_folded_scale(args, self.again.keywords), result)
        return result

    def _name(self, key: CallKey, args: Sequence[Any]) -> str:
        return self._names.get(id(args[1]), f"{key.function} {key.number + 1}").removesuffix(".weight")


class _Ranges(_Watch):
    """The first pass: ranges of the inputs, and the figures of the weights."""

    def see(self, layer: _Layer, args: Sequence[Any], result: Tensor) -> None:
        """Note the input's range and the weights' own figures."""
        layer.see_input(args[0])
        layer.weight_spread = _spread(_largest_weights(args[1]))
        layer.weight_snr_db = _decibels(*_energies(args[1], round_weight(args[1], self.levels // 2)))

    def see_norm(self, layer: _Layer, args: Sequence[Any], scale: Tensor, result: Tensor) -> None:
        """Scale the weights' spread as folding does; their noise, rounded per channel, does not change."""
        layer.weight_spread = _spread(_largest_weights(args[1]) * scale.abs())


class _Noise(_Watch):
    """The second pass: compares each layer's output with and without rounded input and weights."""

    _added: tuple[float, float, Tensor]

    def see(self, layer: _Layer, args: Sequence[Any], result: Tensor) -> None:
        """Add the noise of this batch."""
        values = layer.round_input(args[0], self.levels)
        layer.input_energy += torch.tensor(_energies(args[0], values))
        rounded = self.again(values, round_weight(args[1], self.levels // 2), *args[2:])
        difference = _by_channel(rounded - result, layer.kind).square().sum(1)
        self._added = (float(result.square().sum()), float(difference.sum()), difference)
        layer.output_energy += torch.tensor(self._added[:2])

    def see_norm(self, layer: _Layer, args: Sequence[Any], scale: Tensor, result: Tensor) -> None:
        """Weigh the channels as the batch norm does: after it, small ones may count as much as large ones."""
        signal, noise, difference = self._added
        scaled = float((difference * scale.square()).sum())
        layer.output_energy += torch.tensor([float(result.square().sum()) - signal, scaled - noise])


def _kind(key: CallKey, args: Sequence[Any]) -> str:
    depthwise = key.function != "linear" and args[1].shape[1] == 1 and args[0].shape[1] > 1
    return f"depthwise {key.function}" if depthwise else key.function


def _largest_weights(weight: Tensor) -> Tensor:
    return weight.flatten(1).abs().amax(1)


def _energies(exact: Tensor, rounded: Tensor) -> tuple[float, float]:
    """Return the energy of a tensor and the energy of its rounding error."""
    return float(exact.square().sum()), float((exact - rounded).square().sum())


def _find_folded_scale(args: Sequence[Any], keywords: Mapping[str, Any]) -> Tensor:
    """Return the factors of a batch norm, gamma / sqrt(variance + eps), from functional.batch_norm's arguments."""
    given = {**dict(zip(_NORM_ARGUMENTS, args, strict=False)), **keywords}
    scale: Tensor = (given["running_var"] + given.get("eps", 1e-5)).rsqrt()
    return scale if given.get("weight") is None else scale * given["weight"]
