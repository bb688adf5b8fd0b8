"""Images of many prompts, made in pieces that an interrupted evaluation does not make again."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from ernie_vilg_jax import checkpointing
from ernie_vilg_jax import pipeline as pipelines
from ernie_vilg_jax.config import default_config
from ernie_vilg_jax.data.files import digest
from ernie_vilg_jax.errors import UserError, file_errors
from ernie_vilg_jax.evaluation.image_sets import Files, OfPrompts
from ernie_vilg_jax.grid import save_png
from ernie_vilg_jax.paths import write_atomically
from ernie_vilg_jax.pipeline import Pipeline
from ernie_vilg_jax.pipeline.from_checkpoint import DEMO, fingerprint, resolve
from ernie_vilg_jax.pipeline.prompts import Prompt
from ernie_vilg_jax.pipeline.rerank import Scorer
from ernie_vilg_jax.progress import Progress
from ernie_vilg_jax.sampling_params import make_params
from ernie_vilg_jax.sharding import processes

BATCH = 16
"""Images of one call, candidates included: the largest batch of a pipeline."""
SETTINGS = "settings.json"


def path_of(checkpoint: str | None) -> epath.Path:
    """The checkpoint of the flag --checkpoint; "demo" or nothing is the model of the package."""
    return checkpointing.find(DEMO if checkpoint is None or checkpoint == "demo" else checkpoint)


def config_of(checkpoint: str | None) -> ConfigDict:
    """The config of the flag --checkpoint."""
    return checkpointing.read_config(path_of(checkpoint), default_config())


@dataclass(frozen=True)
class Subject:
    """A model whose images are wanted.

    Attributes:
      checkpoint: as the user named it.
      path: of the checkpoint that this is now.
      load: the pipeline; called when images are missing.
      weights: the fingerprint of its parameters.
    """

    checkpoint: str
    path: epath.Path
    load: Callable[[], Pipeline]
    weights: str

    @staticmethod
    def of(
        checkpoint: str | None,
        mode: str,
        mesh: Mapping[str, int] | None,
        lora: epath.PathLike | None = None,
        scale: float = 1.0,
    ) -> "Subject":
        """The subject of the flags --checkpoint, --mode and --mesh, with the adapters of --lora and --lora_scale."""
        path = path_of(checkpoint)
        weights = fingerprint(resolve(path, lora, scale))
        pipeline = cache(partial(pipelines.load, path, mode=mode, mesh=mesh, lora=lora, scale=scale))
        return Subject(checkpoint or "demo", path, pipeline, weights)

    def make(
        self,
        prompts: Sequence[Prompt],
        folder: Path,
        options: Mapping[str, Any],
        *,
        rerank: Scorer | None = None,
        each: int = 1,
        seed: int = 0,
    ) -> OfPrompts:
        """`each` images of each prompt as `folder/ID_0.png`, ...; those of an earlier, interrupted call are kept.

        Each call of the pipeline has a seed of its own, which depends on the place of its images among all alone. So an
        image is the same whatever was there before, and whichever process makes it.

        Args:
          options: fields of `SamplingParams`.

        Raises UserError if the folder has images of another model, prompts or options.
        """
        config = checkpointing.read_config(self.path, default_config())
        settings = make_params(config.sample, options).told()
        name = None if rerank is None else rerank.name
        settings |= {
            "checkpoint": self.checkpoint,
            "weights": self.weights,  # a run trains on: the images of one checkpoint are not those of the next
            "rerank": name,
            "seed": seed,
            "num_images": each,
        }
        _same_settings(folder, settings, prompts)
        wanted = [(number, place) for number in range(len(prompts)) for place in range(each)]
        files = [folder / f"{prompts[number].id}_{place}.png" for number, place in wanted]
        size = max(1, BATCH // options.get("candidates", 1))
        progress = Progress(len(wanted), "images")
        for call, start in enumerate(range(0, len(wanted), size)):
            rows = range(start, min(start + size, len(wanted)))
            if all(files[row].is_file() for row in rows):
                progress.kept(len(rows))
            elif call % processes.count() == processes.index():
                texts = [prompts[wanted[row][0]].text for row in rows]
                images = self.load()(texts, seed=seed + call, rerank=rerank, **options)
                for row, image in zip(rows, images, strict=True):
                    save_png(image, files[row], image.info)
                progress.made(len(rows))
        processes.wait_for_all("images")
        return OfPrompts(Files(tuple(files)), tuple(prompts), np.array([number for number, _ in wanted]))


def _same_settings(folder: Path, settings: Mapping[str, Any], prompts: Sequence[Prompt]) -> None:
    """Stores the settings of a new folder; raises UserError if those of an old one differ."""
    told = {**settings, "prompts": digest([[prompt.id, prompt.text] for prompt in prompts])}
    file = folder / SETTINGS
    if file.is_file():
        try:
            old = json.loads(file.read_bytes())
        except ValueError:
            old = {}
        now = json.loads(json.dumps(told))
        for name in (*now, *old):  # an option at its default is in neither
            if old.get(name) != now.get(name):
                raise UserError(
                    f"{folder} has images of another evaluation: {name} was {old.get(name)!r} and is "
                    f"{now.get(name)!r} now; give another --output, or delete that folder"
                )
    elif processes.index() == 0:
        with file_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(file, json.dumps(told, ensure_ascii=False, indent=1).encode())
