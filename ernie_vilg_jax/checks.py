"""Checks of users' values, in flags, calls, configs and forms. Each raises UserError with one sentence.

`said` is the beginning of the sentence: the name of the value and, if it helps, the value itself: "steps=0".
"""

import math
from collections.abc import Collection, Sequence
from numbers import Real
from typing import Any

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.texts import fault


def is_number(value: Any) -> bool:
    """Whether it is a finite number; True and False are not."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False


def number(said: str, value: Any, least: float = -math.inf, most: float = math.inf) -> float:
    """`value` as a float, if it is a number from `least` to `most`."""
    if not is_number(value) or not least <= value <= most:
        raise UserError(f"{said} must be a number{_range(least, most)}")
    return float(value)


def whole(said: str, value: Any, least: float = -math.inf, most: float = math.inf) -> int:
    """`value` as an int, if it is a whole number from `least` to `most`; 4.0 is one, because web sliders send it."""
    if not is_number(value) or value != int(value) or not least <= value <= most:
        raise UserError(f"{said} must be a whole number{_range(least, most)}")
    return int(value)


def one_of(said: str, value: Any, known: Collection[Any]) -> Any:
    """`value`, if it is in `known`."""
    if not isinstance(value, str | int) or value not in known:
        raise UserError(f"{said} must be one of {', '.join(str(one) for one in known if one != '')}")
    return value


def texts(said: str, value: Any) -> tuple[str, ...]:
    """One string or several, as a tuple of them."""
    found = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Sequence) else (value,)
    for one in found:
        if not isinstance(one, str):
            raise UserError(f"{said} must be a string or a list of strings, but holds a {type(one).__name__}: {one!r}")
        if reason := fault(one):
            raise UserError(f"{said}: {ascii(one)[:60]} is not text, for it holds {reason}; write it again")
    return found


def _range(least: float, most: float) -> str:
    if math.isinf(least) and math.isinf(most):
        return ""
    if math.isinf(most):
        return f" from {least:g} up"
    return f" from {least:g} to {most:.15g}"
