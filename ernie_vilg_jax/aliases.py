"""Names for what neither jax nor flax has a type for. Type checkers see Any; people see what is meant."""

from typing import Any

Tree = Any
"""A pytree: arrays, ShapeDtypeStructs or shardings in dicts, lists and named tuples."""
Params = Any
"""Parameters of a module, or what is shaped like them (averages, gradients): nested dicts of arrays by name."""
Device = Any
"""jax.Device; jaxlib comes without type stubs."""
