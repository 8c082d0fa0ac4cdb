"""From measurements to widths: pure functions of numbers, and the student that has these widths."""

import itertools
import math
from collections.abc import Mapping, Sequence

from torch import nn

from edgedistill.inspection.records import EffectiveRank, StudentFactor
from edgedistill.models.student import CHANNEL_STEP, build_student
from edgedistill.models.student_names import FEWEST_STAGES, PREFIX, is_shrunk
from edgedistill.models.teacher import Teacher
from edgedistill.networks.layers import LayerPair, map_shapes
from edgedistill.shrinking.shape import count_kept
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.statistics.chance import AgainstChance
from edgedistill_deploy.wording import percent, percent_interval

ENOUGH_VARIANCE = 0.99
# Fewer validation images cannot show a loss of ten points, so any width would do.
FEWEST_IMAGES = 50
LARGEST_FACTOR = 4


def refusal(teacher: AgainstChance) -> str | None:
    """Say why no width can be suggested from this teacher's answers; None where one can be."""
    if teacher.size < FEWEST_IMAGES:
        return (
            f"{teacher.size} validation images are too few to tell which width keeps the teacher's accuracy; "
            f"that takes {FEWEST_IMAGES} or more (--images, or more data)."
        )
    if teacher.standing == "at_chance":
        return (
            f"the teacher is right on {percent(teacher.accuracy)} of {teacher.size} validation images (interval "
            f"{percent_interval(teacher.interval)}), which is not better than chance, {percent(teacher.chance)}; so "
            "there is no accuracy that a width could keep. Give a teacher that knows these classes."
        )
    return None


def effective_rank(variances: Sequence[float]) -> EffectiveRank:
    """Describe falling variances (D,); values that rounding put below 0 count as 0."""
    kept = [max(0.0, each) for each in variances]
    total = math.fsum(kept)
    shares = [each / total for each in kept]
    entropy = -math.fsum(share * math.log(share) for share in shares if share > 0)
    too_few = sum(held < ENOUGH_VARIANCE for held in itertools.accumulate(shares))
    return EffectiveRank(entropy=math.exp(entropy), directions_99=min(too_few + 1, len(shares)))


def doubling_ranks(width: int) -> tuple[int, ...]:
    """Return 1, 2, 4, ... below the width, and the width."""
    return (*(2**power for power in range((width - 1).bit_length())), width)


def stable_rank(met: Mapping[int, bool]) -> int | None:
    """Return the least K such that it and all larger measured K meet the target; None when the largest does not."""
    return min(itertools.takewhile(met.__getitem__, sorted(met, reverse=True)), default=None)


def round_up(k: int) -> int:
    """Return the multiple of the channel step that is at least K."""
    return math.ceil(k / CHANNEL_STEP) * CHANNEL_STEP


def next_rank(met: Mapping[int, bool]) -> int | None:
    """Return the K in the middle of the possible suggested widths; None when these are down to one."""
    stable = stable_rank(met)
    if stable is None:
        return None
    below = max((k for k in met if k < stable), default=0)
    candidates = range(round_up(below + 1), round_up(stable), CHANNEL_STEP)
    return candidates[len(candidates) // 2] if candidates else None


def suggested_width(met: Mapping[int, bool]) -> int | None:
    """Return the stable rank, rounded up to a multiple of the channel step."""
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
    teacher: Teacher,
) -> StudentFactor:
    """Find the width factor, or the share of a shrunk teacher, at which a student's paired layers are wide enough.

    `student` is the one that the user asked for. `wanted` is {teacher layer: channels}; layers without a width do not
    count.
    """
    image_size = teacher.preprocess.size
    least = {pair.student: width for pair in pairs if (width := wanted.get(pair.teacher)) is not None}
    shapes = map_shapes(student, [pair.student for pair in pairs], image_size)
    return StudentFactor(
        name=name,
        layers={pair.teacher: pair.student for pair in pairs},
        widths={pair.teacher: shapes[pair.student][0] for pair in pairs},
        factor=_least(name, least, class_count, teacher) if least else None,
    )


def _least(name: str, least: Mapping[str, int], class_count: int, teacher: Teacher) -> float | None:
    image_size = teacher.preprocess.size
    if not is_shrunk(name):
        return _least_factor(name, least, class_count, image_size)
    full = {layer: shape[0] for layer, shape in map_shapes(teacher.model, tuple(least), image_size).items()}
    shares = (hundredths / 100 for hundredths in range(1, 100))
    return next(
        (share for share in shares if all(count_kept(full[layer], share) >= width for layer, width in least.items())),
        None,
    )


def _least_factor(name: str, least: Mapping[str, int], class_count: int, image_size: tuple[int, int]) -> float | None:
    full = _widths_at(name, 1.0, tuple(least), class_count, image_size)
    # Widths are rounded to whole steps or heads, so the search starts half a step below the proportion.
    start = max((width - CHANNEL_STEP / 2) / full[layer] for layer, width in least.items())
    for hundredths in range(max(1, math.ceil(100 * start - 1e-9)), 100 * LARGEST_FACTOR + 1):
        factor = hundredths / 100
        try:
            widths = _widths_at(name, factor, tuple(least), class_count, image_size)
        except UsageError:  # a family without a factor
            return None
        if all(widths[layer] >= width for layer, width in least.items()):
            return factor
    return None


def _widths_at(
    name: str, factor: float, layers: Sequence[str], class_count: int, image_size: tuple[int, int]
) -> dict[str, int]:
    student = build_student(name, class_count, width=factor, image_size=image_size)
    return {layer: shape[0] for layer, shape in map_shapes(student, layers, image_size).items()}
