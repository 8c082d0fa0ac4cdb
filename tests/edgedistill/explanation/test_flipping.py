"""Patches are taken out in the order of a map, and filled from what is around them."""

import numpy as np
import pytest
import torch
from torch import Tensor

from edgedistill.explanation.flipping import (
    SHARES,
    area_under,
    flip_patches,
    flipping_curves,
    order_by,
    patch_grid,
    random_order,
)
from edgedistill.explanation.inpainting import inpaint

GREY = torch.tensor([0.5, 0.5, 0.5])


def draw(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def hole(height: int = 20, width: int = 17) -> Tensor:
    known = torch.ones(1, 1, height, width, dtype=torch.bool)
    known[:, :, 4:11, 5:13] = False
    return known


def test_known_pixels_stay_and_no_new_colour_is_beyond_the_known_ones() -> None:
    images, known = draw(1, 3, 20, 17), hole()
    filled = inpaint(images, known, GREY)
    assert torch.equal(filled[known.expand_as(images)], images[known.expand_as(images)])
    for colour in range(3):
        here = images[0, colour][known[0, 0]]
        assert here.min() <= filled[0, colour].min()
        assert filled[0, colour].max() <= here.max()
    assert torch.equal(filled, inpaint(images, known, GREY))


def test_what_lies_behind_a_hole_does_not_show() -> None:
    images, known = draw(1, 3, 20, 17), hole()
    other = torch.where(known, images, 7 + images)
    assert torch.equal(inpaint(images, known, GREY), inpaint(other, known, GREY))


def test_a_plain_image_is_whole_again_and_a_slope_nearly() -> None:
    plain = torch.full((1, 3, 20, 17), 0.3)
    assert torch.allclose(inpaint(plain, hole(), GREY), plain)
    slope = torch.linspace(0, 1, 17).expand(1, 3, 20, 17)
    away = inpaint(slope, hole(), GREY) - slope
    mean = slope[hole().expand_as(slope)].mean()
    assert away.abs().max() < 0.6 * (slope - mean)[~hole().expand_as(slope)].abs().max()


def test_an_image_without_any_pixel_left_has_the_colour_given() -> None:
    filled = inpaint(draw(1, 3, 5, 6), torch.zeros(1, 1, 5, 6, dtype=torch.bool), torch.tensor([0.1, 0.2, 0.3]))
    assert torch.allclose(filled, torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1).expand(1, 3, 5, 6))


def test_the_grid_has_patches_of_four_pixels_and_fourteen_a_side_at_most() -> None:
    assert patch_grid(32, 32) == (8, 8)
    assert patch_grid(224, 200) == (14, 14)
    assert patch_grid(3, 9) == (1, 2)


def test_the_order_begins_where_the_map_speaks_most_for_the_class() -> None:
    maps = torch.zeros(1, 8, 8)
    maps[0, :4, 4:], maps[0, 4:, :4] = 2.0, -3.0
    assert order_by(maps).tolist() == [[1, 0, 3, 2]]


def test_a_random_order_has_every_patch_once_and_the_seed_fixes_it() -> None:
    one = random_order((32, 32), (0, 1))
    assert sorted(one.tolist()) == list(range(64))
    assert torch.equal(one, random_order((32, 32), (0, 1)))
    assert not torch.equal(one, random_order((32, 32), (0, 2)))


def test_the_share_of_the_patches_is_taken_out_in_the_given_order() -> None:
    images = draw(2, 3, 16, 16)
    order = torch.stack([torch.arange(16), torch.arange(16).flip(0)])
    flipped = flip_patches(images, order, 0.25, GREY)
    changed = (flipped != images).any(dim=1)
    assert not changed[0, 4:].any()
    assert not changed[1, :12].any()
    assert changed[0, :4].float().mean() > 0.9
    assert changed[1, 12:].float().mean() > 0.9
    assert torch.equal(flip_patches(images, order, 0.0, GREY), images)


def test_the_map_of_what_counts_loses_the_evidence_first() -> None:
    """The evidence is the brightness of one corner; its own order loses it at once, the opposite one last."""
    images = 0.2 * draw(1, 3, 16, 16)
    images[:, :, :4, :4] += 0.8
    where = torch.zeros(1, 16, 16)
    where[:, :4, :4] = 1

    def evidence(flipped: Tensor) -> tuple[Tensor, ...]:
        return ((flipped * where).sum(dim=(1, 2, 3)),)

    best, worst = (flipping_curves(images, order_by(sign * where), GREY, evidence)[0] for sign in (1, -1))
    assert best.shape == (1, len(SHARES))
    assert area_under(best.double().numpy())[0] < 0.6 * area_under(worst.double().numpy())[0]


def test_the_area_under_a_curve_is_that_of_its_trapezoids() -> None:
    assert area_under(np.ones((2, len(SHARES)))) == pytest.approx([1, 1])
    assert area_under(1 - np.array(SHARES)) == pytest.approx(0.5)
