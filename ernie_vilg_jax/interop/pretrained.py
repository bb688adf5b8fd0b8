"""Models of `transformers` from a folder or the hub, run with torch; shared by detectors, captioners and translators.

`torch` and `transformers` are imported when a model is loaded. Models run in float32 without dropout. Images go
through the processors that need only Pillow and NumPy, so torchvision makes no difference.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ernie_vilg_jax.errors import UserError, first_line, install
from ernie_vilg_jax.images import to_rgb

_WINDOW = 8
"""How many batches of images are searched for images of one shape, which can share a batch."""


def import_torch(kind: str) -> Any:
    """The module torch, imported by name because the package itself must not depend on it."""
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise UserError(f"the {kind} needs the package torch: {install('models')}") from error


class Pretrained:
    """One model in memory.

    Attributes:
      config: its configuration.
      torch: the module.
      model: the model, after `load_model`.
    """

    def __init__(self, kind: str, name: str, device: str = "cpu") -> None:
        """Reads only the configuration; `kind` ("detector") names the model's purpose in messages."""
        self.torch = import_torch(kind)
        self.kind, self.name, self.device = kind, str(name), device
        self._check_folder()
        try:
            torch_device = self.torch.device(device)
            self.torch.empty(0, device=torch_device)
        except Exception as error:  # torch raises RuntimeError, AssertionError or NotImplementedError
            raise UserError(f"{kind} option device={device!r} cannot be used ({first_line(error)})") from error
        from transformers import AutoConfig

        self.config: Any = self.load(AutoConfig.from_pretrained, "configuration")
        self.model: Any = None

    def _check_folder(self) -> None:
        path = Path(self.name).expanduser()
        if path.is_dir():
            self.name = str(path)
            if not (path / "config.json").exists():
                raise UserError(
                    f"{self.kind} model {path} has no config.json: give the folder that save_pretrained wrote"
                )
        elif path.exists():
            raise UserError(f"{self.kind} model {path} is a file: give the folder that holds it")
        # A hub name is "name" or "owner/name"; anything else must be a path.
        elif self.name.startswith((".", "~", os.sep)) or self.name.count("/") != 1:
            raise UserError(
                f"{self.kind} model {self.name!r} is not a folder: check the path, or give owner/name of a hub"
            )

    def load(self, function: Callable[..., Any], what: str, **options: Any) -> Any:
        """`function(name, **options)`; failures become one sentence."""
        try:
            return function(self.name, **options)
        except Exception as error:  # OSError, ValueError, ImportError and the hub client's own
            if Path(self.name).is_dir():
                raise UserError(
                    f"the {what} of {self.kind} model {self.name} cannot be loaded ({first_line(error)}): "
                    "save it again with save_pretrained, model and processor in one folder"
                ) from error
            raise UserError(
                f"{self.kind} model {self.name!r} is not a folder, and its {what} could not be fetched from the hub "
                f"({first_line(error)}): check the name and the connection, or give a downloaded folder"
            ) from error

    def check_type(self, known: Collection[str], fix: str) -> None:
        """Raises unless the model's type is one of `known`."""
        if self.config.model_type not in known:
            raise UserError(f"{self.name} is a {self.config.model_type} model, not a {self.kind}: {fix}")

    def load_model(self, auto: Any) -> Any:
        """Loads the weights in evaluation mode, ready for `torch.inference_mode`."""
        self.model = self.load(auto.from_pretrained, "weights", dtype=self.torch.float32).to(self.device).eval()
        return self.model

    def load_image_processor(self) -> Any:
        from transformers import AutoImageProcessor

        return self.load(AutoImageProcessor.from_pretrained, "image processor", backend="pil")

    def on_device(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {key: value.to(self.device) for key, value in inputs.items()}

    def batches(
        self, count: int, batch_size: int, process: Callable[[int], dict[str, Any]]
    ) -> Iterator[tuple[list[int], dict[str, Any]]]:
        """Groups inputs of equal shape, so that nothing is padded and no result depends on its neighbours.

        Args:
          count: how many inputs there are.
          batch_size: at most this many in a batch.
          process: index -> tensors of that input, each with a leading batch axis.

        Yields:
          (indices, joined tensors on the device); every index once, in any order.
        """
        for start in range(0, count, _WINDOW * batch_size):
            shapes: dict[tuple[Any, ...], list[tuple[int, dict[str, Any]]]] = {}
            for index in range(start, min(start + _WINDOW * batch_size, count)):
                inputs = process(index)
                shape = tuple((key, tuple(value.shape[1:])) for key, value in inputs.items())
                shapes.setdefault(shape, []).append((index, inputs))
            for group in shapes.values():
                for k in range(0, len(group), batch_size):
                    part = group[k : k + batch_size]
                    keys = part[0][1].keys()
                    joined = {key: self.torch.cat([inputs[key] for _, inputs in part]) for key in keys}
                    yield [index for index, _ in part], self.on_device(joined)


def as_rgb(image: Image.Image, id: str) -> Image.Image:
    """The image in RGB, transparent parts white."""
    try:
        image.load()
        return to_rgb(image)
    except Exception as error:  # Pillow raises many types on damaged files
        raise UserError(f"the image of record {id!r} cannot be decoded ({first_line(error)}): leave it out") from error


def check_positive(kind: str, **options: int) -> None:
    for option, value in options.items():
        if not isinstance(value, int) or value < 1:
            raise UserError(f"{kind} option {option}={value!r} must be a whole number of at least 1")


def check_ids(images: Sequence[Image.Image], ids: Sequence[str]) -> None:
    if len(images) != len(ids):
        raise ValueError(f"{len(images)} images but {len(ids)} ids")
