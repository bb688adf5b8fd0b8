"""Names for values without a type in jax or flax. Type checkers see Any; readers see the meaning."""

from typing import Any

Tree = Any
"""A pytree: arrays, ShapeDtypeStructs or shardings in dicts, lists and named tuples."""
Params = Any
"""Parameters of a module, or trees of the same structure (averages, gradients): nested dicts of arrays by name."""
Device = Any
"""jax.Device; jaxlib comes without type stubs."""
