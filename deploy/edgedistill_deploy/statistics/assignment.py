"""The best one-to-one assignment of rows to columns, exactly, with numpy alone: scipy is not on a device."""

import numpy as np
from numpy.typing import NDArray


def best_assignment(scores: NDArray[np.floating | np.integer]) -> NDArray[np.int64]:
    """Return the column of each row of `scores` (n, n). Each column is used once, and the sum of scores is largest.

    Source: the Hungarian method by shortest augmenting paths (Jonker and Volgenant, Computing 38, 1987). It adds one
    row after another; a path of least reduced cost frees a column for it. O(n^3), near O(n^2) for a good diagonal.
    """
    cost = scores.max(initial=0) - np.asarray(scores, dtype=np.float64)
    count = len(cost)
    row_price, column_price = np.zeros(count), np.zeros(count)
    row_of = np.full(count, -1)
    for row in range(count):
        _add_row(row, cost, row_price, column_price, row_of)
    columns = np.empty(count, dtype=np.int64)
    columns[row_of] = np.arange(count)
    return columns


def _add_row(
    row: int,
    cost: NDArray[np.float64],
    row_price: NDArray[np.float64],
    column_price: NDArray[np.float64],
    row_of: NDArray[np.int64],
) -> None:
    """Match one more row. `row_of` (n,) holds each column's row or -1; no cost is below the sum of its prices."""
    distance = np.full(len(cost), np.inf)
    came_from = np.full(len(cost), -1)
    done = np.zeros(len(cost), dtype=bool)
    current, column, reached = row, -1, 0.0
    while current >= 0:
        through = reached + cost[current] - row_price[current] - column_price
        closer = ~done & (through < distance)
        distance[closer] = through[closer]
        came_from[closer] = column
        column = int(np.where(done, np.inf, distance).argmin())
        reached = float(distance[column])
        done[column] = True
        current = int(row_of[column])
    row_price[row] += reached
    settled = done & (row_of >= 0)
    row_price[row_of[settled]] += reached - distance[settled]
    column_price[done] -= reached - distance[done]
    while column >= 0:
        previous = int(came_from[column])
        row_of[column] = row if previous < 0 else row_of[previous]
        column = previous
