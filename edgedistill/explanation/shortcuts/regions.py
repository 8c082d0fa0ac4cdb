"""The places that are looked at: the cells of a grid over the image, its corners, its edges and its border."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MOST_CELLS = 7  # along a side
_LEAST_PIXELS = 4  # along a cell's side
_LEAST_CELLS = 4  # along a side, for a grid whose corners, edges and border are parts of it
_CORNER = 2  # cells along a side

Grid = tuple[int, int]
Cells = NDArray[np.bool_]
Maps = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Region:
    """A place: its name in words, and which cells (rows, columns) of the grid are in it."""

    name: str
    cells: Cells


def grid_of(height: int, width: int) -> Grid:
    """Return the rows and columns of cells on an image, whose sides are in pixels: at most 7 of each."""
    rows, columns = (max(1, min(_MOST_CELLS, side // _LEAST_PIXELS)) for side in (height, width))
    return rows, columns


def find_regions(grid: Grid) -> tuple[Region, ...]:
    """Return the cells, row by row, then the places that are made of several cells of the border."""
    return (*_single_cells(grid), *_along_the_border(grid))


def region_shares(maps: Maps, grid: Grid) -> NDArray[np.float64]:
    """Return the share (B, regions) of the positive relevance of maps (B, H, W) that lies in each of `find_regions`.

    A map without positive relevance has a share of 0 everywhere.
    """
    positive = np.maximum(maps, 0)
    rows, columns = grid
    starts = [-(-np.arange(count) * side // count) for count, side in zip(grid, maps.shape[1:], strict=True)]
    cells = np.add.reduceat(np.add.reduceat(positive, starts[0], axis=1), starts[1], axis=2)
    total = cells.sum(axis=(1, 2))
    shares = cells / np.where(total > 0, total, 1)[:, None, None]
    members = np.stack([region.cells.ravel() for region in find_regions(grid)])
    found: NDArray[np.float64] = shares.reshape(len(maps), rows * columns) @ members.T.astype(np.float64)
    return found


def pixels_of(cells: Cells, size: Grid) -> NDArray[np.bool_]:
    """Return which pixels of an image of `size` (H, W) lie in cells (rows, columns)."""
    rows, columns = (np.arange(side) * count // side for side, count in zip(size, cells.shape, strict=True))
    return np.asarray(cells[rows][:, columns], dtype=np.bool_)


def name_place(cells: Cells) -> str:
    """Return cells in words: the smallest named place that they lie in, else their rows and columns."""
    within = [each for each in _along_the_border((cells.shape[0], cells.shape[1])) if not (cells & ~each.cells).any()]
    if within and cells.sum() > 1:
        return min(within, key=lambda each: int(each.cells.sum())).name
    rows, columns = (np.flatnonzero(cells.any(axis=axis)) for axis in (1, 0))
    return f"{_span('row', rows)}, {_span('column', columns)} of a grid of {cells.shape[0]} x {cells.shape[1]}"


def _span(what: str, places: NDArray[np.int64]) -> str:
    first, last = int(places[0]) + 1, int(places[-1]) + 1
    return f"{what} {first}" if first == last else f"{what}s {first} to {last}"


def _single_cells(grid: Grid) -> Iterator[Region]:
    for row, column in np.ndindex(*grid):
        cells = np.zeros(grid, dtype=np.bool_)
        cells[row, column] = True
        yield Region(name=f"row {row + 1}, column {column + 1}", cells=cells)


def _along_the_border(grid: Grid) -> Iterator[Region]:
    if min(grid) < _LEAST_CELLS:
        return
    near, far = slice(0, _CORNER), slice(-_CORNER, None)
    whole, first, last = slice(None), slice(0, 1), slice(-1, None)
    for name, place in {
        "the top left corner": (near, near),
        "the top right corner": (near, far),
        "the bottom left corner": (far, near),
        "the bottom right corner": (far, far),
        "the top edge": (first, whole),
        "the bottom edge": (last, whole),
        "the left edge": (whole, first),
        "the right edge": (whole, last),
    }.items():
        cells = np.zeros(grid, dtype=np.bool_)
        cells[place] = True
        yield Region(name=name, cells=cells)
    border = np.ones(grid, dtype=np.bool_)
    border[1:-1, 1:-1] = False
    yield Region(name="the border", cells=border)
