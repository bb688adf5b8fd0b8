"""The model that fine-tuning starts from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import logging
from etils import epath
from ml_collections import ConfigDict

from ernie_vilg_jax import checkpointing
from ernie_vilg_jax.config import default_config
from ernie_vilg_jax.data.files import digest
from ernie_vilg_jax.data.manifests import MANIFEST, read_manifest
from ernie_vilg_jax.data.tokenizers import Tokenizer
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.pipeline import DEMO


@dataclass(frozen=True)
class Origin:
    """A trained model: a run, a checkpoint, an export, or the demo.

    Attributes:
      given: as the user named it.
      path: of the checkpoint that this is now.
      config: the settings of its training.
      phase: "base", one U-Net, or "experts".
      fingerprint: of its weights.
      data: the prepared data that it was trained on, if they are on this machine.
    """

    given: str
    path: epath.Path
    config: ConfigDict
    phase: str
    fingerprint: str
    tokenizer: Tokenizer
    data: Path | None

    @staticmethod
    def of(given: str) -> Origin:
        """The origin of the flag --from. Raises UserError if there is no model that can be fine-tuned."""
        path = checkpointing.find(DEMO if given == "demo" else given, "from")
        metadata = checkpointing.read_metadata(path)
        config = checkpointing.read_config(path, default_config())
        if metadata["phase"] not in ("base", "experts"):
            raise UserError(f"--from={given} is of the phase {metadata['phase']}: name one of base or experts")
        if config.lora.rank:
            raise UserError(
                f"--from={given} has only adapters: merge them into a model with `python -m ernie_vilg_jax.checkpoint "
                f"export {given} FOLDER`, and start from that"
            )
        with config.unlocked():
            # A checkpoint that is older than the section was trained without.
            config.knowledge.enabled = bool(metadata["config"].get("knowledge", {}).get("enabled", False))
        return Origin(
            given,
            path,
            config,
            metadata["phase"],
            digest(metadata),
            checkpointing.read_tokenizer(path),
            _data_at_hand(metadata),
        )


def _data_at_hand(metadata: dict[str, Any]) -> Path | None:
    """The folder of the checkpoint's data, if it is there and holds the same records."""
    given = metadata["config"]["data"].get("path", "")
    folder = Path(given).expanduser() if given else None
    if folder is None or not (folder / MANIFEST).is_file():
        return None
    if read_manifest(folder)["fingerprint"] != metadata.get("data"):
        logging.warning("%s holds other records than the model was trained on: it is not used", folder)
        return None
    return folder
