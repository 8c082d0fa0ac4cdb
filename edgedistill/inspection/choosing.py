"""The choice of each layer's subspace where the setting is `method = "auto"` (not in the paper)."""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import nn

from edgedistill.inspection.accuracy import Batch, Examination, Tally
from edgedistill.networks.logits import ClassIndices
from edgedistill.subspaces.directions import subspace_from
from edgedistill.subspaces.moments import Moments
from edgedistill_deploy.progress import Progress, silent

# The first that suffices is taken. No K directions hold more variance than those of pca.
CANDIDATES = ("pca", "prca")
# The part of its accuracy that the teacher must keep when a layer is projected.
TARGET = 0.99
# The largest number of validation images for the choice.
IMAGES = 1000


@torch.no_grad()
def choose_methods(
    model: nn.Module,
    class_indices: ClassIndices,
    batches: Callable[[], Iterator[Batch]],
    moments: Mapping[str, Moments],
    ranks: Mapping[str, int],
    progress: Progress = silent,
) -> dict[str, str]:
    """Choose each layer's subspace by the accuracy that the teacher keeps inside it; {layer: method}.

    The choice is the subspace of largest variance where the teacher keeps 99 % of its accuracy with only that layer
    projected on it: this subspace gives the student the most to learn from. Where the teacher keeps less (the images
    hold much that the subtask does not use, or the student is narrow), the choice is the relevant subspace. When
    neither is enough, it is the one that keeps more.

    Args:
        model: the teacher, in evaluation mode.
        class_indices: the subtask's columns of its logits, as for `restrict_logits`.
        batches: called for a pass over normalised validation images (n, 3, H, W) and labels (n,), on the model's
            device.
        moments: of the layers, from training images.
        ranks: {layer: K}.
        progress: counts the images, each once for each projection.

    Raises:
        EdgeDistillError: a layer has no subspace; it is named.
    """
    widths = {layer: len(each.mean) for layer, each in moments.items()}
    kept = {layer: min(ranks[layer], width) for layer, width in widths.items()}
    subspaces = {
        (layer, method): subspace_from(each, widths[layer], layer=layer, method=method)
        for layer, each in moments.items()
        for method in CANDIDATES
    }
    examination = Examination(model=model, class_indices=class_indices, batches=batches, subspaces=subspaces)
    own = examination.measure_teacher()
    tallies = examination.measure_projected(
        {key: (kept[key[0]],) for key in subspaces},
        lambda done, total, note="": progress(done, own.size * len(subspaces)),
    )
    return {
        layer: _sufficient({method: tallies[layer, method][k] for method in CANDIDATES}, own)
        for layer, k in kept.items()
    }


def _sufficient(tallies: Mapping[str, Tally], own: Tally) -> str:
    enough = (method for method, each in tallies.items() if each.meets(TARGET, own))
    return next(enough, max(tallies, key=lambda method: tallies[method].right))
