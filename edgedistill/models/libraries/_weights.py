"""State dicts as they are found: inside a checkpoint, under a prefix, or of another architecture."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from edgedistill.models.libraries.files import require_weights_file
from edgedistill.models.libraries.messages import first_line
from edgedistill_deploy.errors import DataError

State = Mapping[str, Tensor]

# Of several state dicts in one checkpoint, the averaged weights are the better ones; then what is usually meant.
_PREFERRED = ("state_dict_ema", "model_ema", "ema", "ema_state_dict", "state_dict", "model_state_dict", "model", "net")
# Counters of batch normalisation; older files lack them, and evaluation does not read them.
_UNUSED = "num_batches_tracked"
_SHOWN = 4
_FOREIGN_OBJECT = re.compile(r"Unsupported (?:global|class): (?:GLOBAL )?([\w.]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One way to read a checkpoint: the state dict under a key of it, without a prefix of its names; "" for none."""

    state: State
    key: str = ""
    prefix: str = ""

    def note(self, path: Path) -> str:
        """Say what was taken off; empty if nothing was."""
        taken = [f"the state dict under {self.key!r} was used"] if self.key else []
        taken += [f"the prefix {self.prefix!r} of its names was taken off"] if self.prefix else []
        return f"{path.name}: {' and '.join(taken)}" if taken else ""


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """Read a safetensors file or what `torch.save` wrote, without running code from it.

    Raises:
        DataError: no such file, truncated, not a mapping, or readable only by running code.
    """
    require_weights_file(path)
    try:
        found: Any = load_file(path) if path.suffix == ".safetensors" else _load_plain(path)
    except Exception as error:  # truncated, pickled code, not a state dict
        raise DataError(
            f"The weights {path} cannot be read without running code from them ({_explain(error)}); save them as"
            " safetensors or as a plain state dict."
        ) from error
    if not isinstance(found, Mapping) or not any(True for _ in find_candidates(found)):
        raise DataError(f"The file {path} holds no state dict: a mapping of names to tensors.")
    return found


def _explain(error: Exception) -> str:
    """Return what stands in the way; torch's own message advises to run the code."""
    foreign = _FOREIGN_OBJECT.search(str(error))
    return f"besides tensors they hold an object of {foreign[1]}" if foreign else first_line(error)


def _load_plain(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def find_candidates(checkpoint: Mapping[str, Any]) -> Iterator[Candidate]:
    """Yield the ways to read a checkpoint, the likeliest first: at most one level deep, and under one prefix."""
    for key, state in _state_dicts(checkpoint):
        yield Candidate(state=state, key=key)
        for prefix in _common_prefixes(state):
            without = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
            yield Candidate(state=without, key=key, prefix=prefix)


def _state_dicts(checkpoint: Mapping[str, Any]) -> Iterator[tuple[str, State]]:
    """Yield (key, state dict) of the checkpoint itself under "", and of the mappings in it."""
    if tensors := _tensors_of(checkpoint):
        yield "", tensors
    for key in sorted(filter(_is_name, checkpoint), key=_preference):
        inner = checkpoint[key]
        if isinstance(inner, Mapping) and (tensors := _tensors_of(inner)):
            yield key, tensors


def _is_name(key: object) -> bool:
    return isinstance(key, str)


def _preference(key: str) -> int:
    return _PREFERRED.index(key) if key in _PREFERRED else len(_PREFERRED)


def _tensors_of(mapping: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {name: each for name, each in mapping.items() if _is_name(name) and isinstance(each, Tensor)}


def _common_prefixes(names: Iterable[str]) -> Iterator[str]:
    """Yield the beginnings, up to a dot, that all names share, the shortest first."""
    first, *others = names
    parts = first.split(".")
    for count in range(1, len(parts)):
        prefix = ".".join(parts[:count]) + "."
        if not all(name.startswith(prefix) for name in others):
            return
        yield prefix


def choose_candidate(checkpoint: Mapping[str, Any], wanted: Iterable[str]) -> Candidate | None:
    """Return the first candidate with all the wanted names and no other; None if there is none."""
    names = _used(wanted)
    return next((each for each in find_candidates(checkpoint) if _used(each.state) == names), None)


def _used(names: Iterable[str]) -> set[str]:
    return {name for name in names if not name.endswith(_UNUSED)}


def find_tensor(checkpoint: Mapping[str, Any], name: str) -> Tensor | None:
    """Return the tensor of this name in a checkpoint, under any prefix; of several, the one with the shortest name."""
    for _, state in _state_dicts(checkpoint):
        ends = [each for each in state if each == name or each.endswith(f".{name}")]
        if ends:
            return state[min(ends, key=len)]
    return None


def describe_mismatch(checkpoint: Mapping[str, Any], wanted: State) -> str:
    """Say from both sides why no candidate fits, without the full stop."""
    nearest = max(find_candidates(checkpoint), key=lambda each: len(_used(each.state) & _used(wanted)))
    found, needed = _used(nearest.state), _used(wanted)
    if found == needed:
        return describe_shapes(nearest.state, wanted)
    if not found & needed:
        sides = f"yours begin {_listed(_beginnings(nearest.state))}; the model's begin {_listed(_beginnings(wanted))}"
        return f"0 of {len(needed)} names match; {sides}"
    only = [
        f"only the {side} has {_listed([name for name in names if name in _used(names) - others])}"
        for side, names, others in (("file", nearest.state, needed), ("model", wanted, found))
        if _used(names) - others
    ]
    return "; ".join([f"{len(found & needed)} of {len(needed)} names match", *only])


def describe_shapes(found: State, wanted: State) -> str:
    """Say which tensors have another shape than the model's; empty if none has."""
    other = [name for name in wanted if name in found and found[name].shape != wanted[name].shape]
    shown = [f"{name} is {tuple(found[name].shape)} and the model's is {tuple(wanted[name].shape)}" for name in other]
    more = f"; and {len(other) - _SHOWN} more" if len(other) > _SHOWN else ""
    return "; ".join(shown[:_SHOWN]) + more


def _beginnings(names: Iterable[str]) -> list[str]:
    """Return the first parts of names, with the number that follows some of them: conv_stem, blocks.0."""
    parts: dict[str, None] = {}
    for name in names:
        if not name.endswith(_UNUSED):
            first, *rest = name.split(".")
            parts[f"{first}.{rest[0]}" if rest and rest[0].isdigit() else first] = None
    return list(parts)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{each}`" for each in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
