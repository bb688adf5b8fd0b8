"""ERNIE-ViLG 2.0 in JAX: text-to-image diffusion in Chinese and English with timestep experts (arXiv:2210.15257).

    import ernie_vilg_jax
    pipe = ernie_vilg_jax.load()                     # the demo checkpoint that comes with the package
    images = pipe("一只戴红帽子的熊猫")               # a list of PIL images

The names are imported lazily, so importing the package costs nothing and does not initialise an accelerator.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ernie_vilg_jax.version import __version__

if TYPE_CHECKING:
    from ernie_vilg_jax.pipeline import AttentionMaps, Pipeline, Progress, load

__all__ = ["AttentionMaps", "Pipeline", "Progress", "__version__", "load"]

_HOME = dict.fromkeys(("AttentionMaps", "Pipeline", "Progress", "load"), "ernie_vilg_jax.pipeline")


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
