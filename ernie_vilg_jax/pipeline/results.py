"""What a call of the pipeline returns, and tells while it runs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ernie_vilg_jax import checks


@dataclass(frozen=True)
class Progress:
    """The progress of a call, after each step."""

    step: int
    """Steps done: 1, 2, ... `steps`."""
    steps: int
    """Of the whole call. More images than fit a batch are made one batch after the other, each with all its steps."""
    timestep: int
    """The timestep at which the step began, in [0, T)."""
    stage: int
    """The stage of that timestep, and so the expert that did the step."""
    decode: Callable[[], list[Image.Image]]
    stages: tuple[int, ...] = ()
    """The stage of each step of a batch."""

    def images(self) -> list[Image.Image]:
        """The model's estimate of the clean images at this step. Decoded at each call, and only then."""
        return self.decode()


OnStep = Callable[[Progress], None]
"""Called in Python after each step, in order. An exception in it ends the call."""


class Images(list[Image.Image]):
    """PIL images; `info` of each has its settings."""

    def __init__(self, images: list[Image.Image], output_type: str = "pil") -> None:
        """`output_type` is "pil" or "np". Raises UserError for another."""
        super().__init__(images)
        self.output_type = check_output_type(output_type)

    @property
    def images(self) -> Any:
        """The images in the form that `output_type` asked for: this list, or [N, H, W, 3] float32 in [0, 1]."""
        return self if self.output_type == "pil" else _array(self)

    @property
    def seed(self) -> int:
        """The seed of the call: the one that was drawn, with seed=None."""
        return self[0].info["seed"]


def check_output_type(value: Any) -> str:
    """The type, if it is known. Raises UserError."""
    return checks.one_of(f"output_type={value!r}", "np" if value == "numpy" else value, ("pil", "np"))


def _array(images: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(image, np.float32) / 255 for image in images])
