"""Files to download: named after prompt and seed, with their settings inside, and enlarged if wanted."""

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from ernie_vilg_jax.grid import save_png

ENLARGEMENTS = (1, 2, 4, 8)
NAME_LIMIT = 40
"""Characters of the prompt in a file's name."""


def name_of(image: Image.Image) -> str:
    """The name of an image's file, without its suffix: prompt, seed and number, as far as the image tells them."""
    words = re.sub(r"\W+", "_", str(image.info.get("prompt", "image"))).strip("_")[:NAME_LIMIT].strip("_")
    numbers = [str(image.info[name]) for name in ("seed", "number") if name in image.info]
    return "_".join([words or "image", *numbers])


@contextmanager
def written(images: Sequence[Image.Image], enlarge: int = 1) -> Iterator[list[str]]:
    """PNG files of the images, each side `enlarge` times as long; deleted at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="ernie_vilg_jax_") as folder:
        paths = []
        for number, image in enumerate(images):
            size = image.width * enlarge, image.height * enlarge
            shown = image if enlarge == 1 else image.resize(size, Image.Resampling.LANCZOS)
            path = Path(folder) / f"{number}" / f"{name_of(image)}.png"
            save_png(shown, path, image.info | ({"enlarged": enlarge} if enlarge > 1 else {}))
            paths.append(str(path))
        yield paths
