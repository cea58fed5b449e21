"""Closed contours of a mask along the pixels' borders, holes joined in by keyholes.

Such contours hold exactly the pixels of the mask, so that filling them gives it back. A hole is
joined to what surrounds it by a line that is run along twice (DICOM PS3.3 C.8.8.6.3): programs that
fill each contour by itself, as well as those that fill by even-odd, keep it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_Corner = tuple[int, int]
_RIGHT_OF = {(0, 1): (1, 0), (1, 0): (0, -1), (0, -1): (-1, 0), (-1, 0): (0, 1)}
"""The direction (row, column) after a turn to the right."""


def trace(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Trace the borders of a mask's parts.

    Pixels that touch at a corner only are two parts.

    Args:
        mask: (rows, columns).

    Returns:
        A polygon a part, (N, 2) vertices (row, column), pixel centres at whole numbers, in the
        order of their first pixels; [] of an empty mask.
    """
    loops = _loops(mask)
    outer = [loop for loop in loops if _is_clockwise(loop)]
    holes = [loop for loop in loops if not _is_clockwise(loop)]
    for hole in sorted((_from_leftmost(hole) for hole in holes), key=lambda hole: hole[0][1]):
        _join(outer, hole)
    return [np.array(loop) - 0.5 for loop in outer]


def _loops(mask: NDArray[np.bool_]) -> list[list[_Corner]]:
    """Follow the borders, the mask on the right, to closed loops of their corners."""
    ways = _border_steps(mask)
    loops: list[list[_Corner]] = []
    while ways:
        start = at = next(iter(ways))
        heading = next(iter(ways[start]))
        loop: list[_Corner] = []
        while True:
            ahead = ways[at]
            # at a corner of two parts the right turn stays with the part that is followed
            turned = heading if len(ahead) == 1 else _RIGHT_OF[heading]
            way = turned if turned in ahead else next(iter(ahead))
            if way != heading or not loop:
                loop.append(at)
            ahead.remove(way)
            if not ahead:
                del ways[at]
            heading, at = way, (at[0] + way[0], at[1] + way[1])
            if at == start and (start not in ways or _RIGHT_OF[heading] not in ways[start]):
                break
        (r0, c0), (r1, c1), (r2, c2) = loop[-1], loop[0], loop[1]
        straight = r0 == r1 == r2 or c0 == c1 == c2  # the border runs through its first corner
        loops.append(loop[1:] if straight else loop)
    return loops


def _border_steps(mask: NDArray[np.bool_]) -> dict[_Corner, set[tuple[int, int]]]:
    """Map corners, in the order of rows, to the directions of the border steps from them."""
    padded = np.pad(mask, 1).astype(np.int8)  # corner (r, c) lies left above pixel (r, c)
    across, down = np.diff(padded, axis=1), np.diff(padded, axis=0)
    borders: tuple[tuple[NDArray[np.bool_], tuple[int, int]], ...] = (
        (down[:, 1:-1] == 1, (0, 1)),  # a top border runs right
        (down[:, 1:-1] == -1, (0, -1)),  # a bottom border runs left
        (across[1:-1] == -1, (1, 0)),  # a right border runs down
        (across[1:-1] == 1, (-1, 0)),  # a left border runs up
    )
    steps: list[tuple[int, int, tuple[int, int]]] = []
    for border, way in borders:
        start = np.argwhere(border) + np.array((way == (-1, 0), way == (0, -1)))
        steps += [(row, column, way) for row, column in start.tolist()]
    ways: dict[_Corner, set[tuple[int, int]]] = {}
    for row, column, way in sorted(steps):
        ways.setdefault((row, column), set()).add(way)
    return ways


def _is_clockwise(loop: list[_Corner]) -> bool:
    """Return True for the border around a part, False for that of a hole."""
    rows, columns = np.array(loop).T
    doubled = int((columns * np.roll(rows, -1) - rows * np.roll(columns, -1)).sum())
    return doubled > 0


def _from_leftmost(loop: list[_Corner]) -> list[_Corner]:
    """Begin a loop at its leftmost corner, the upper one of several."""
    first = min(range(len(loop)), key=lambda index: (loop[index][1], loop[index][0]))
    return loop[first:] + loop[:first]


def _join(outer: list[list[_Corner]], hole: list[_Corner]) -> None:
    """Join a hole to the loop that the line to the left of its first corner meets first."""
    row, column = hole[0]
    met: tuple[int, int, int] | None = None  # column, loop, place in it
    for index, loop in enumerate(outer):
        starts = np.array(loop)
        ends = np.roll(starts, -1, axis=0)
        low, high = np.minimum(starts, ends)[:, 0], np.maximum(starts, ends)[:, 0]
        upright = (starts[:, 1] == ends[:, 1]) & (low <= row) & (row < high)
        for place in np.flatnonzero(upright & (starts[:, 1] < column)):
            found = int(starts[place, 1])
            if met is None or found > met[0]:
                met = found, index, int(place)
    if met is not None:
        at, number, after = met
        bridge = [(row, at), *hole, hole[0], (row, at)]
        outer[number][after + 1 : after + 1] = bridge
