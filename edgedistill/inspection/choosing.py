"""Which subspace each layer is matched in, where the settings leave that open (`method = "auto"`; not in the paper)."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import nn

from edgedistill.inspection.accuracy import Batch, Examination, Tally
from edgedistill.subspaces.directions import subspace_from
from edgedistill.subspaces.moments import Moments
from edgedistill_deploy.progress import Progress, silent

# In the order in which they are taken: the first holds the most variance that as many directions can.
CANDIDATES = ("pca", "prca")
# The part of the teacher's accuracy that has to be left when a layer is projected.
TARGET = 0.99
# Validation images that the choice is made on, at most.
IMAGES = 1000


@torch.no_grad()
def choose_methods(
    model: nn.Module,
    class_indices: Sequence[int],
    batches: Callable[[], Iterator[Batch]],
    moments: Mapping[str, Moments],
    ranks: Mapping[str, int],
    progress: Progress = silent,
) -> dict[str, str]:
    """Choose each layer's subspace by what the teacher still knows inside it; {layer: method}.

    The subspace of largest variance is taken where the teacher, with that layer alone projected on it, keeps 99 % of
    its accuracy: it leaves the student the most to learn from. Where it does not, because the images hold much that the
    subtask has no use for or because the student is narrow, the relevant subspace is taken, or whichever of the two
    keeps more when neither keeps enough.

    Args:
        model: the teacher, in evaluation mode.
        class_indices: the subtask's columns of its logits.
        batches: called for a pass over normalised validation images (n, 3, H, W) and labels (n,), on the model's
            device.
        moments: of the layers, from training images.
        ranks: {layer: K}.
        progress: counts the images, each once a projection.

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
    total = own.size * len(subspaces)
    tallies = examination.measure_projected(
        {key: (kept[key[0]],) for key in subspaces}, lambda done: progress(done, total)
    )
    return {
        layer: _sufficient({method: tallies[layer, method][k] for method in CANDIDATES}, own)
        for layer, k in kept.items()
    }


def _sufficient(tallies: Mapping[str, Tally], own: Tally) -> str:
    enough = (method for method, each in tallies.items() if each.meets(TARGET, own))
    return next(enough, max(tallies, key=lambda method: tallies[method].right))
