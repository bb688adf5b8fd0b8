"""A folder to upload to the Hugging Face hub: an exported checkpoint, and its model card as README.md."""

from collections.abc import Sequence
from pathlib import Path

from etils import epath

from ernie_vilg_jax import checkpointing, texts
from ernie_vilg_jax.config import default_config
from ernie_vilg_jax.errors import UserError, file_errors
from ernie_vilg_jax.evaluation.card import description
from ernie_vilg_jax.paths import local, write_atomically
from ernie_vilg_jax.pipeline import export

CARD = "README.md"
_FRONT = """---
language:
- zh
- en
library_name: ernie_vilg_jax
pipeline_tag: text-to-image
{licence}tags:
- jax
- flax
- text-to-image
---
"""
_USE = """## Use

```python
import ernie_vilg_jax

pipe = ernie_vilg_jax.load("hf://OWNER/NAME")  # where this folder was uploaded to
pipe("一只猫")[0].save("cat.png")
```"""
_UNSCORED = """## Scores

Nobody has measured any. `python -m ernie_vilg_jax.evaluate --checkpoint=... --card=FILE` writes a card with them."""


def publish(
    source: epath.PathLike,
    output: epath.PathLike,
    *,
    card: str | None = None,
    licence: str = "",
    prompts: Sequence[str] | None = None,
    overwrite: bool = False,
) -> int:
    """Writes the export of a checkpoint or run and its card to a folder; returns the export's size in bytes.

    Args:
      card: the card that `evaluate --card` wrote; without it, the card says what the config tells, and has no scores.
      licence: of the weights, as the hub names it, such as apache-2.0.
      prompts, overwrite: as in `export`.

    Raises UserError as `export` does, and for a card that cannot be read.
    """
    folder, found = local(output, "output"), checkpointing.find(source)
    config = checkpointing.read_config(found, default_config())
    body = _read(card) if card else "\n\n".join([f"# {config.name}", *description(config), _UNSCORED])
    front = _FRONT.format(licence=f"license: {licence}\n" if licence else "")
    size = export(str(found), folder, prompts=prompts, overwrite=overwrite)
    write_atomically(folder / CARD, f"{front}\n{body.strip()}\n\n{_USE}\n".encode())
    return size


def _read(card: str) -> str:
    file = Path(card).expanduser()
    if not file.is_file():
        raise UserError(f"--card={card}: there is no such file; `evaluate --card=FILE` writes one")
    with file_errors(file):
        return texts.decode(file.read_bytes(), card)
