"""What turns images and texts into the inputs of networks of transformers. None of it needs torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ernie_vilg_jax.errors import UserError, first_line

TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "vocab.txt")


class Processor:
    """The image processor of a folder: image [H, W, 3] uint8 -> [side, side, 3] fp32, normalised.

    Attributes:
      side: height and width of its images.
      mean, std: fp32 [3], of pixels in [0, 1].
      settings: all of its options, as JSON.
    """

    def __init__(self, path: str) -> None:
        """Raises UserError if the folder has none, or one whose images are not squares."""
        from transformers import AutoImageProcessor

        folder = Path(path).expanduser()
        what = "image processor (preprocessor_config.json)"
        self._processor: Any = _load(AutoImageProcessor, folder, what, backend="pil")
        self.mean = np.asarray(self._processor.image_mean, np.float32)
        self.std = np.asarray(self._processor.image_std, np.float32)
        self.settings: str = self._processor.to_json_string()
        height, width, _ = self(np.zeros((8, 16, 3), np.uint8)).shape
        if height != width:
            raise UserError(f"{folder}: its image processor makes images of {width}x{height} pixels, not squares")
        self.side: int = height

    def __call__(self, image: np.ndarray) -> np.ndarray:
        pixels = self._processor(Image.fromarray(image), return_tensors="np")["pixel_values"][0]
        return np.asarray(pixels, np.float32).transpose(1, 2, 0)


def load_tokenizer(path: str, vocab_size: int) -> Any:
    """The tokenizer of a folder. Raises UserError if it has none, or one with more than `vocab_size` tokens."""
    from transformers import AutoTokenizer

    folder = Path(path).expanduser()
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):  # transformers would make an empty one
        raise UserError(
            f"{folder} has no tokenizer ({' or '.join(TOKENIZER_FILES)}): put that of the same model beside its weights"
        )
    tokenizer = _load(AutoTokenizer, folder, "tokenizer")
    if len(tokenizer) > vocab_size:
        raise UserError(
            f"{folder}: its tokenizer has {len(tokenizer)} tokens, but its text encoder has only {vocab_size}: put "
            "that of the same model beside its weights"
        )
    return tokenizer


def _load(auto: Any, folder: Path, what: str, **options: Any) -> Any:
    try:
        return auto.from_pretrained(str(folder), local_files_only=True, **options)
    except Exception as error:  # OSError, ValueError, ImportError and the hub client's own
        raise UserError(
            f"{folder} has no {what} that can be read ({first_line(error)}): put that of the same "
            "model beside its weights"
        ) from error
