"""What a place does to the answers: it is taken out of all images, and put from one class onto the others."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgedistill.explanation.explaining import Asked
from edgedistill.explanation.inpainting import inpaint
from edgedistill_deploy.statistics.paired import drop_interval, mcnemar_p

Labels = NDArray[np.int64]
Correct = NDArray[np.bool_]
Record = dict[str, Any]


def take_out(pixels: Tensor, place: Tensor, colour: Tensor) -> Tensor:
    """Return images (B, H, W, 3) as floats with a place (H, W) filled from what is around it; see `inpaint`."""
    known = ~place.to(pixels.device).expand(len(pixels), 1, *place.shape)
    return inpaint(pixels.float().permute(0, 3, 1, 2), known, colour).permute(0, 2, 3, 1)


def put_on(pixels: Tensor, place: Tensor, donors: Tensor, first: int) -> Tensor:
    """Return images (B, H, W, 3) with a place (H, W) copied from donors (D, H, W, 3), one after another.

    `first` is the place of the first image among all, so that the same image always meets the same donor.
    """
    chosen = donors[(first + torch.arange(len(pixels))) % len(donors)].to(pixels.device)
    return torch.where(place.to(pixels.device)[None, :, :, None], chosen, pixels)


def measure_changes(
    asked: Mapping[str, Asked],
    batches: Iterable[Tensor],
    truth: Labels,
    plain: Mapping[str, Labels],
    label: int,
    place: Tensor,
    donors: Tensor,
) -> Record:
    """Return what the answers become without a place, and with that of the class's images on other images.

    Args:
        asked: the networks.
        batches: all images, (B, H, W, 3) at a time.
        truth: the right class of each image (N,).
        plain: what each network says of the images as they are (N,).
        label: position of the class whose place it is.
        place: the pixels (H, W).
        donors: images of this class (D, H, W, 3).

    Returns {"inpainted": {network: accuracy on the class's images and on all others}, "pasted": {network: share of the
    other images that it takes for this class}}, each before and after, with the interval of the change.
    """
    without: dict[str, list[Tensor]] = {name: [] for name in asked}
    pasted: dict[str, list[Tensor]] = {name: [] for name in asked}
    first = 0
    for pixels in batches:
        for name, each in asked.items():
            there = pixels.to(each.colour.device)
            with torch.no_grad():
                without[name].append(each.logits(take_out(there, place, each.colour)).argmax(dim=1).cpu())
                pasted[name].append(each.logits(put_on(there, place, donors, first)).argmax(dim=1).cpu())
        first += len(pixels)
    own = truth == label
    return {
        "inpainted": {
            name: {
                "of_class": _accuracy(plain[name][own] == truth[own], _labels(found)[own] == truth[own]),
                "others": _accuracy(plain[name][~own] == truth[~own], _labels(found)[~own] == truth[~own]),
            }
            for name, found in without.items()
        },
        "pasted": {
            name: _gain(plain[name][~own] == label, _labels(found)[~own] == label) for name, found in pasted.items()
        },
    }


def _labels(batches: list[Tensor]) -> Labels:
    return np.asarray(torch.cat(batches).numpy(), dtype=np.int64)


def _accuracy(before: Correct, after: Correct) -> Record:
    """Return how many images are right before and after, as shares, and the drop with its interval and p-value."""
    lost, gained = int(np.sum(before & ~after)), int(np.sum(after & ~before))
    return {**_both(before, after), "drop": _share(before) - _share(after), **_judge(lost, gained, len(before))}


def _gain(before: Correct, after: Correct) -> Record:
    """Return the share of images taken for a class before and after, and the rise with its interval and p-value."""
    lost, gained = int(np.sum(before & ~after)), int(np.sum(after & ~before))
    return {**_both(before, after), "rise": _share(after) - _share(before), **_judge(gained, lost, len(before))}


def _both(before: Correct, after: Correct) -> Record:
    return {"images": len(before), "before": _share(before), "after": _share(after)}


def _judge(more: int, fewer: int, images: int) -> Record:
    """Return Tango's interval of (more - fewer) / images, and McNemar's exact p-value."""
    return {"interval": list(drop_interval(more, fewer, images)), "p": mcnemar_p(more, fewer)}


def _share(held: Correct) -> float:
    return float(held.mean()) if len(held) else 0.0
