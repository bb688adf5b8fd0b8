"""Where the things of a scene stand: cells that do not overlap, along an axis if there is a relation."""

from __future__ import annotations

import random
from collections.abc import Sequence

Place = tuple[float, float, float]
"""Left, top and side of the square that holds a thing, in fractions of the image."""
Box = tuple[float, float, float, float]
"""Left, top, width and height."""

MARGIN = 0.02


def place_groups(draw: random.Random, groups: Sequence[tuple[int, str]], relation: str) -> list[tuple[Place, ...]]:
    """Places of each group.

    Args:
      groups: number of equal things (1 to 4) and their size ("big", "small" or "").
      relation: of each group to the next: "left", "right", "above", "below"; "on" (the first rides on the second); "".
    """
    if relation == "on":
        return _riding(draw)
    if len(groups) == 1:
        number, size = groups[0]
        return [_alone(draw, size) if number == 1 else _within(draw, (0.0, 0.0, 1.0, 1.0), number, size)]
    axis = relation or draw.choice(("left", "above", "right", "below"))
    cells = _cells(
        [(2.0 if number > 1 or size == "big" else 1.0 if size != "small" else 0.9) for number, size in groups]
    )
    if axis in ("right", "below"):
        cells = [(1 - start - length, length) for start, length in cells]
    found = []
    for (number, size), (start, length) in zip(groups, cells, strict=True):
        across = min(1.0, max(length, 0.5) + 0.2) if number == 1 else 1.0
        shift = draw.uniform(0, 1 - across)
        box = (start, shift, length, across) if axis in ("left", "right") else (shift, start, across, length)
        found.append(_within(draw, box, number, size))
    return found


def _cells(weights: Sequence[float]) -> list[tuple[float, float]]:
    """[0, 1] cut by weights: start and length of each piece."""
    start, found = 0.0, []
    for weight in weights:
        length = weight / sum(weights)
        found.append((start, length))
        start += length
    return found


def _alone(draw: random.Random, size: str) -> tuple[Place, ...]:
    side = draw.uniform(*{"big": (0.78, 0.94), "small": (0.26, 0.36), "": (0.5, 0.8)}[size])
    return ((*(draw.uniform(MARGIN, 1 - MARGIN - side) for _ in "xy"), side),)  # pyright: ignore[reportReturnType]


def _within(draw: random.Random, box: Box, number: int, size: str) -> tuple[Place, ...]:
    """Equal things in a box: one in it, or several in a row, a column, a triangle or a square."""
    left, top, width, height = box
    grids = {1: [(1, 1)], 2: [(2, 1), (1, 2), (2, 2)], 3: [(3, 1), (1, 3), (2, 2)], 4: [(2, 2)]}[number]
    columns, rows = max(
        grids, key=lambda grid: (min(width / grid[0], height / grid[1]) + draw.uniform(0, 0.15), draw.random())
    )
    cell = width / columns, height / rows
    cells = [(column, row) for row in range(rows) for column in range(columns)]
    diagonal = number == 2 and len(cells) == 4
    chosen = draw.choice(([cells[0], cells[3]], [cells[1], cells[2]])) if diagonal else draw.sample(cells, number)
    room = min(cell)
    side = room * draw.uniform(*{"big": (0.86, 0.96), "small": (0.46, 0.56), "": (0.74, 0.92)}[size])
    places = []
    for column, row in chosen:
        x = left + column * cell[0] + _slack(draw, cell[0], side)
        y = top + row * cell[1] + _slack(draw, cell[1], side)
        places.append((x, y, side))
    return tuple(places)


def _slack(draw: random.Random, room: float, side: float) -> float:
    """Where in its cell a thing begins: near the middle, never out of it."""
    free = max(room - side, 0.0)
    return free / 2 + draw.uniform(-0.5, 0.5) * max(free - 2 * MARGIN, 0.0) * 0.8


def _riding(draw: random.Random) -> list[tuple[Place, ...]]:
    """The rider stands on the upper edge of the mount, which `painting` finds; here are only the squares."""
    mount, rider = draw.uniform(0.52, 0.6), draw.uniform(0.38, 0.44)
    x = draw.uniform(0.06, 0.94 - mount)
    top = 0.97 - mount
    return [((x + (mount - rider) / 2, top - rider, rider),), ((x, top, mount),)]
