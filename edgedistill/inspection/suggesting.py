"""From what was measured to widths: pure functions of numbers, and the student that has these widths."""

import math
from collections.abc import Mapping, Sequence

from torch import nn

from edgedistill.inspection.records import EffectiveRank, StudentFactor
from edgedistill.models.plain import FEWEST_STAGES, PREFIX
from edgedistill.models.student import CHANNEL_STEP, build_student
from edgedistill.networks.layers import LayerPair, map_shapes
from edgedistill_deploy.errors import UsageError

ENOUGH_VARIANCE = 0.99
LARGEST_FACTOR = 4.0


def effective_rank(variances: Sequence[float]) -> EffectiveRank:
    """Describe a spectrum of variances (D,), falling; what rounding left below 0 counts as 0."""
    kept = [max(0.0, each) for each in variances]
    total = math.fsum(kept)
    shares = [each / total for each in kept]
    entropy = -math.fsum(share * math.log(share) for share in shares if share > 0)
    reached, count = 0.0, 0
    while count < len(shares) and reached < ENOUGH_VARIANCE:
        reached += shares[count]
        count += 1
    return EffectiveRank(entropy=math.exp(entropy), directions_99=count)


def doubling_ranks(width: int) -> tuple[int, ...]:
    """Return 1, 2, 4, ... below the width, and the width."""
    return (*(2**power for power in range((width - 1).bit_length())), width)


def stable_rank(met: Mapping[int, bool]) -> int | None:
    """Return the least K from which on the target is met at every K measured; None when it is not met at the
    largest."""
    stable = None
    for k in sorted(met, reverse=True):
        if not met[k]:
            break
        stable = k
    return stable


def round_up(k: int) -> int:
    """Return the multiple of the channel step that is at least K."""
    return math.ceil(k / CHANNEL_STEP) * CHANNEL_STEP


def next_rank(met: Mapping[int, bool]) -> int | None:
    """Return the K whose measurement halves what is unknown about the suggested width; None when nothing is left."""
    stable = stable_rank(met)
    if stable is None:
        return None
    below = max((k for k in met if k < stable), default=0)
    candidates = range(round_up(below + 1), round_up(stable), CHANNEL_STEP)
    return candidates[len(candidates) // 2] if candidates else None


def suggested_width(met: Mapping[int, bool]) -> int | None:
    """Return the stable rank, rounded up to whole channel steps."""
    stable = stable_rank(met)
    return None if stable is None else round_up(stable)


def plain_student(widths: Sequence[int | None]) -> str | None:
    """Name the plain network with these widths; None when one is missing or they are too few for a network."""
    known = [str(each) for each in widths if each is not None]
    if len(known) < max(FEWEST_STAGES, len(widths)):
        return None
    return PREFIX + "-".join(known)


def student_factor(
    name: str,
    student: nn.Module,
    pairs: Sequence[LayerPair],
    wanted: Mapping[str, int | None],
    class_count: int,
    image_size: tuple[int, int],
) -> StudentFactor:
    """Find how wide a student must be built so that its paired layers have the wanted widths.

    Args:
        name: of the student, for `build_student`.
        student: as it was asked for.
        pairs: of teacher and student.
        wanted: {teacher layer: channels}; pairs of other layers, or without a width, ask for nothing.
        class_count: C.
        image_size: (H, W).
    """
    needed = {pair.student: wanted[pair.teacher] for pair in pairs if wanted.get(pair.teacher) is not None}
    least = {layer: int(width) for layer, width in needed.items() if width is not None}
    shapes = map_shapes(student, [pair.student for pair in pairs], image_size)
    return StudentFactor(
        name=name,
        layers={pair.teacher: pair.student for pair in pairs},
        widths={pair.teacher: shapes[pair.student][0] for pair in pairs},
        factor=_least_factor(name, least, class_count, image_size) if least else None,
    )


def _least_factor(name: str, least: Mapping[str, int], class_count: int, image_size: tuple[int, int]) -> float | None:
    full = _widths_at(name, 1.0, tuple(least), class_count, image_size)
    # Widths are rounded to whole steps or heads, so the proportion is where the search starts, half a step below.
    start = max((width - CHANNEL_STEP / 2) / full[layer] for layer, width in least.items())
    hundredths = max(1, math.ceil(100 * start - 1e-9))
    while hundredths <= 100 * LARGEST_FACTOR:
        factor = hundredths / 100
        try:
            widths = _widths_at(name, factor, tuple(least), class_count, image_size)
        except UsageError:  # a family without a factor
            return None
        short = [layer for layer, width in least.items() if widths[layer] < width]
        if not short:
            return factor
        hundredths += 1
    return None


def _widths_at(
    name: str, factor: float, layers: Sequence[str], class_count: int, image_size: tuple[int, int]
) -> dict[str, int]:
    student = build_student(name, class_count, width=factor, image_size=image_size)
    return {layer: shape[0] for layer, shape in map_shapes(student, layers, image_size).items()}
