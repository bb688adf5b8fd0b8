"""From names in a config or flag to objects: sources, taggers, detectors, captioners and translators."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ernie_vilg_jax import checks
from ernie_vilg_jax.errors import UserError


def build(
    kind: str,
    registry: Mapping[str, str],
    name: str,
    options: Mapping[str, Any],
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> Any:
    """Makes the object of `name`.

    Args:
      kind: its kind ("detector"), for messages.
      registry: name -> "module:class", imported when used.
      name: a key of `registry`.
      options: keyword arguments of the class.
      defaults: more of them, for those that the class has and `options` lacks.
    """
    module, attribute = registry[checks.one_of(f"{kind} {name!r}", name, registry)].split(":")
    constructor = getattr(importlib.import_module(module), attribute)
    parameters = inspect.signature(constructor).parameters
    options = {name: value for name, value in defaults.items() if name in parameters} | dict(options)
    for option in options:
        if option not in parameters:
            raise UserError(f"{kind} {name!r} has no option {option!r}: it has {', '.join(parameters)}")
    for option, parameter in parameters.items():
        if parameter.default is parameter.empty and option not in options:
            raise UserError(f"{kind} {name!r} needs the option {option!r}")
    return constructor(**options)
