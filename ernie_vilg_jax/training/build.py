"""From a config and a working directory to the task that trains: what `train` does before its loop."""

from typing import Any

import jax
import numpy as np
from absl import logging
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ernie_vilg_jax.data.loader import fixed_batch, make_loader
from ernie_vilg_jax.data.tokenizers import Tokenizer
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.models.autoencoder import Posterior
from ernie_vilg_jax.parallel import distributed, rules
from ernie_vilg_jax.system import System
from ernie_vilg_jax.training import checkpoints, parts
from ernie_vilg_jax.training.autoencoder import AutoencoderTask
from ernie_vilg_jax.training.diffusion import DiffusionTask, expert_name
from ernie_vilg_jax.training.task import Batch, Task

STATISTICS_BATCH = 64


def build_task(config: ConfigDict, system: System, tokenizer: Tokenizer, mesh: Mesh, workdir: epath.Path) -> Task:
    """The task of `config.target`. Stage 2 starts from `workdir`'s stage 1, and that from `workdir`'s autoencoder.

    Or stage 1 starts from what `config.stage1.init_from` or `config.stage1.*_from` name.
    """
    validation = _validation_batch(config, tokenizer, mesh)
    if config.target == "autoencoder":
        return AutoencoderTask(config, system, mesh, validation)
    restart = any((workdir / config.target / "checkpoints").glob("[0-9]*"))
    start = None
    if not restart:
        if config.target == "stage2":
            start = _branch(_run_checkpoint(workdir, "stage1", config, "stage2"), system, tokenizer, mesh)
        elif config.stage1.init_from:
            parts.check_alone(config)
            path = checkpoints.find(config.stage1.init_from, "config.stage1.init_from")
            checkpoints.check_same(path, config, "stage1")
            start = _branch(path, system, tokenizer, mesh)
        else:
            start = parts.read_parts(config, system, tokenizer, mesh)
            if "autoencoder" not in start:
                start["autoencoder"] = _trained_autoencoder(config, system, tokenizer, mesh, workdir)
    posteriors = None
    if config.data.cache_latents:
        frozen = start["autoencoder"] if start else _frozen_autoencoder(workdir / config.target, system, mesh)
        posteriors = _all_posteriors(config, system, tokenizer, frozen, mesh)
    return DiffusionTask(config, system, mesh, validation, start, posteriors)


def _frozen_autoencoder(run: epath.Path, system: System, mesh: Mesh) -> Any:
    """The autoencoder inside the newest checkpoint of a stage."""
    abstract = {"autoencoder": system.abstract_autoencoder()}
    return checkpoints.read_items(checkpoints.find(run), rules.placed(abstract, rules.shardings(abstract, mesh)))[
        "autoencoder"
    ]


def _all_posteriors(
    config: ConfigDict, system: System, tokenizer: Tokenizer, autoencoder: Any, mesh: Mesh
) -> Posterior:
    """Posteriors of all training pictures in this host's memory, computed anew at every start: they can't go stale.

    Every host holds them all: which of them it needs is drawn anew in each epoch.
    """
    if config.data.crop != "center":
        raise UserError("--config.data.cache_latents sees each picture once, so it cannot go with data.crop='random'")
    loader = make_loader(config, tokenizer, batch_size=STATISTICS_BATCH, seed=0, epochs=1, workers=0, train=False)
    encode = jax.jit(system.posterior, out_shardings=rules.replicated(mesh))
    pieces = []
    for batch in loader:
        images = batch["image"]
        count = len(images)
        full = np.concatenate([images, np.zeros((STATISTICS_BATCH - count, *images.shape[1:]), np.float32)])
        pieces.append(jax.tree.map(lambda leaf, count=count: np.asarray(leaf)[:count], encode(autoencoder, full)))
    posteriors = jax.tree.map(lambda *leaves: np.concatenate(leaves), *pieces)
    logging.info("latents of %d pictures cached: %.1f MB", len(posteriors.mean), 2 * posteriors.mean.nbytes / 2**20)
    return posteriors


def _validation_batch(config: ConfigDict, tokenizer: Tokenizer, mesh: Mesh) -> Batch:
    """Fixed held-out pictures with their captions, and the prompts of the previews."""
    batch = fixed_batch(config, tokenizer, "holdout", config.train.validation_samples, config.seed)
    prompts = [tokenizer.encode(prompt)[:2] for prompt in config.train.preview_prompts]
    tokens, masks = zip(*(prompts or [tokenizer.encode("")[:2]]), strict=True)
    null_tokens, null_mask = tokenizer.encode("")[:2]
    more = {
        "preview_tokens": np.stack(tokens),
        "preview_mask": np.stack(masks),
        "null_tokens": null_tokens[None],
        "null_mask": null_mask[None],
    }
    batch = {name: array for name, array in {**batch, **more}.items() if name != "index"}
    return distributed.to_all(batch, rules.replicated(mesh))


def _run_checkpoint(workdir: epath.Path, target: str, config: ConfigDict, needed_by: str) -> epath.Path:
    folder = workdir / target / "checkpoints"
    if not any(folder.glob("[0-9]*")):
        raise UserError(
            f"{needed_by} starts from a trained {target}, but {folder} holds no checkpoint; "
            f"run the same command with --config=…:{target} first"
            + (", or bring one with --config.stage1.autoencoder_from" if target == "autoencoder" else "")
        )
    path = checkpoints.find(workdir / target)
    checkpoints.check_same(path, config, target)
    steps, trained = int(path.name), config[target].steps
    if steps < trained:
        logging.warning("%s of %s stands at step %d of %d", target, workdir, steps, trained)
    return path


def _trained_autoencoder(
    config: ConfigDict, system: System, tokenizer: Tokenizer, mesh: Mesh, workdir: epath.Path
) -> Any:
    """{"params", "mean" [c], "std" [c]}: the average of `workdir`'s, and its latents' mean and spread."""
    path = _run_checkpoint(workdir, "autoencoder", config, "stage1")
    abstract = jax.eval_shape(system.init_autoencoder, jax.random.key(0))
    abstract = rules.placed(abstract, rules.shardings(abstract, mesh))
    params = checkpoints.read_items(path, {"autoencoder": {"ema": abstract}})["autoencoder"]["ema"]
    channels = system.autoencoder.latent_channels
    raw = {"params": params, "mean": np.zeros(channels, np.float32), "std": np.ones(channels, np.float32)}
    encode = jax.jit(system.encode, out_shardings=rules.replicated(mesh))
    batch = fixed_batch(config, tokenizer, "train", config.train.latent_statistics_samples, config.seed)
    images = np.asarray(batch["image"])
    pieces = [
        encode(raw, images[i : i + STATISTICS_BATCH])
        for i in range(0, max(len(images) - STATISTICS_BATCH + 1, 1), STATISTICS_BATCH)
    ]
    latents = np.concatenate([np.asarray(piece, np.float64) for piece in pieces])
    mean, std = latents.mean((0, 1, 2)), latents.std((0, 1, 2))
    if not np.all(std > 1e-6):
        dead = np.flatnonzero(std <= 1e-6).tolist()
        logging.warning("latent channels %s carry nothing; their spread is taken as 1", dead)
        std = np.where(std > 1e-6, std, 1.0)
    logging.info("latents: mean %s, std %s (of %d pictures)", mean.round(2), std.round(2), len(latents))
    return {**raw, "mean": mean.astype(np.float32), "std": std.astype(np.float32)}


def _branch(path: epath.Path, system: System, tokenizer: Tokenizer, mesh: Mesh) -> dict[str, Any]:
    """The averages of a stage-1 checkpoint, with its autoencoder."""
    theirs, ours = (checkpoints.pack_tokenizer(one) for one in (checkpoints.read_tokenizer(path), tokenizer))
    if theirs.keys() != ours.keys() or any(not np.array_equal(theirs[name], ours[name]) for name in ours):
        raise UserError(
            f"checkpoint {path} has another tokenizer than the data; prepare the data with "
            "--config.tokenizer.path=FOLDER, the tokenizer/ folder of the data that the checkpoint was trained on"
        )
    key = jax.random.key(0)
    abstract = {
        "autoencoder": system.abstract_autoencoder(),
        "text_encoder": {"ema": jax.eval_shape(system.init_text_encoder, key)},
        expert_name(0): {"ema": jax.eval_shape(system.init_unet, key)},
    }
    abstract = rules.placed(abstract, rules.shardings(abstract, mesh))
    items = checkpoints.read_items(path, abstract)
    return {
        "autoencoder": items["autoencoder"],
        "text_encoder": items["text_encoder"]["ema"],
        "unet": items[expert_name(0)]["ema"],
    }
