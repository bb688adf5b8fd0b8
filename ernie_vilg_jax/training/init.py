"""Builds the task of a run from a config and a working directory, before the training loop starts."""

from typing import Any

import jax
import numpy as np
from absl import logging
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ernie_vilg_jax import checkpointing, compatibility
from ernie_vilg_jax.checkpointing import expert_name
from ernie_vilg_jax.config import default_config
from ernie_vilg_jax.data.files import digest
from ernie_vilg_jax.data.loader import all_examples, fixed_examples
from ernie_vilg_jax.data.sizes import sizes_of
from ernie_vilg_jax.data.tokenizers import Tokenizer
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.interop import components
from ernie_vilg_jax.interop.lpips import read_lpips
from ernie_vilg_jax.model import Model
from ernie_vilg_jax.models.autoencoder import Posterior
from ernie_vilg_jax.sharding import rules
from ernie_vilg_jax.training.autoencoder import AutoencoderTask
from ernie_vilg_jax.training.diffusion import DiffusionTask
from ernie_vilg_jax.training.encoded import check_autoencoder, is_encoded
from ernie_vilg_jax.training.latents import Encoder, measure, measure_encoded, pieces_of
from ernie_vilg_jax.training.resident import load_resident
from ernie_vilg_jax.training.task import Task
from ernie_vilg_jax.training.validation import make_validation


def build_task(
    config: ConfigDict,
    model: Model,
    tokenizer: Tokenizer,
    mesh: Mesh,
    workdir: epath.Path,
    resumed: epath.Path | None = None,
) -> Task:
    """The task of `config.phase`. `experts` starts from `workdir`'s `base`, and that from `workdir`'s `autoencoder`.

    Both can also start from `config.phases.<phase>.init_from`, and `base` from `config.phases.base.*_from`. `resumed`,
    the checkpoint that the run resumes from, has everything it needs; with adapters, all but what they change.
    """
    validation = make_validation(config, model, tokenizer, mesh)
    if config.phase == "autoencoder":
        path = config.phases.autoencoder.perceptual_weights
        resident = load_resident(config, tokenizer, mesh) if config.data.resident else None
        return AutoencoderTask(config, model, mesh, validation, read_lpips(path) if path else None, resident)
    encoded = is_encoded(config)
    if encoded:
        parts = {"autoencoder": resumed} if resumed else beginnings(config, workdir, tokenizer)
        check_autoencoder(config, parts.get("autoencoder") or parts["all parts"])
    start, notes = None, {}
    if resumed is None or config.lora.rank:
        if config.phase == "experts" or config.phases.base.init_from:
            path = _whole_beginning(config, workdir)
            start = _branch(path, config, model, tokenizer, mesh)
            notes = {"base": digest(checkpointing.read_metadata(path))} if config.lora.rank else {}
            _check_same_base(resumed, path, notes)
        else:
            start = read_components(config, model, tokenizer, mesh)
            if "autoencoder" not in start:
                start["autoencoder"] = _trained_autoencoder(config, model, tokenizer, mesh, workdir)
    posteriors = resident = None
    if (config.data.cache_latents or config.data.resident) and not encoded:
        frozen = start["autoencoder"] if start else _frozen_autoencoder(resumed, model, mesh)
        if config.data.resident:
            resident = load_resident(config, tokenizer, mesh, Encoder(model, mesh), frozen)
        else:
            posteriors = _all_posteriors(config, model, tokenizer, frozen, mesh)
    return DiffusionTask(config, model, mesh, validation, start, posteriors, resident, notes)


def _check_same_base(resumed: epath.Path | None, path: epath.Path, notes: dict[str, Any]) -> None:
    """Raises UserError if adapters in training would be added to another model than until now."""
    if resumed is not None and checkpointing.read_metadata(resumed).get("base") != notes["base"]:
        raise UserError(
            f"checkpoint {resumed} has adapters of another model than {path}, whose weights have changed: name the "
            "model that they were trained on, or take another --workdir"
        )


def _frozen_autoencoder(path: epath.Path | None, model: Model, mesh: Mesh) -> Any:
    """The autoencoder inside a checkpoint."""
    assert path is not None
    abstract = {"autoencoder": model.abstract_autoencoder()}
    return checkpointing.read_items(path, rules.placed(abstract, rules.shardings(abstract, mesh)))["autoencoder"]


def _all_posteriors(config: ConfigDict, model: Model, tokenizer: Tokenizer, autoencoder: Any, mesh: Mesh) -> Posterior:
    """Posteriors of all training images in this process's memory, computed at every start so they can't go stale.

    Every process holds all of them, because it draws different ones in each epoch.
    """
    check_cache(config)
    (examples,) = all_examples(config, tokenizer, "train").by_size(sizes_of(config))
    encoder, pieces = Encoder(model, mesh), []
    for _, batch in pieces_of(examples, model, mesh):
        # The process decodes these images while the devices encode the previous ones.
        pieces[-1:] = jax.device_get(pieces[-1:])
        pieces.append(encoder.posterior(autoencoder, batch["image"]))
    posteriors = jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(examples)], *jax.device_get(pieces))
    logging.info("latents of %d pictures cached: %.1f MB", len(posteriors.mean), 2 * posteriors.mean.nbytes / 2**20)
    return posteriors


def check_cache(config: ConfigDict) -> None:
    """Raises UserError if latents are to be cached but images are cropped at random, or have several sizes."""
    if config.data.cache_latents and config.data.crop != "center":
        raise UserError("--config.data.cache_latents sees each picture once, so it cannot go with data.crop='random'")
    if config.data.cache_latents and len(sizes_of(config)) > 1:
        raise UserError("--config.data.cache_latents has one size: encode the data for several (docs/data.md)")


def _run_checkpoint(workdir: epath.Path, phase: str, config: ConfigDict, needed_by: str) -> epath.Path:
    folder = checkpointing.phase_folder(workdir, phase) / "checkpoints"
    if not checkpointing.steps(folder):
        raise UserError(
            f"{needed_by} starts from a trained {phase}, but {folder} holds no checkpoint; "
            f"run the same command with --config=…:{phase} first"
            + (", or bring one with --config.phases.base.autoencoder_from" if phase == "autoencoder" else "")
        )
    path = checkpointing.find(folder)
    # An autoencoder is trained on crops, and encodes images of any size.
    compatibility.check_same(path, config, phase, but=("model.image_size",) if phase == "autoencoder" else ())
    steps, trained = int(path.name), config.phases[phase].steps
    if steps < trained:
        logging.warning("%s of %s stands at step %d of %d", phase, workdir, steps, trained)
    return path


def _trained_autoencoder(
    config: ConfigDict, model: Model, tokenizer: Tokenizer, mesh: Mesh, workdir: epath.Path
) -> Any:
    """{"params", "mean" [c], "std" [c]}: the EMA of `workdir`'s autoencoder, and its latents' statistics."""
    path = _run_checkpoint(workdir, "autoencoder", config, "base")
    abstract = model.abstract_autoencoder()["params"]
    abstract = rules.placed(abstract, rules.shardings(abstract, mesh))
    params = checkpointing.read_items(path, {"autoencoder": {"ema": abstract}})["autoencoder"]["ema"]
    examples = fixed_examples(config, tokenizer, "train", config.train.latent_statistics_samples, config.seed)
    if is_encoded(config):
        return measure_encoded(params, examples)
    pieces = (batch for _, batch in pieces_of(examples, model, mesh))
    return measure(Encoder(model, mesh), params, pieces)


def beginnings(config: ConfigDict, workdir: epath.Path, tokenizer: Tokenizer | None) -> dict[str, epath.Path]:
    """Part -> the checkpoint that provides it at the first step of a run; reads no arrays.

    Raises UserError as `build_task` does; without `tokenizer`, vocabularies are not compared.
    """
    if config.phase == "autoencoder":
        return {}
    if config.phase == "experts" or config.phases.base.init_from:
        path = _whole_beginning(config, workdir)
        if tokenizer is not None:
            _check_branch(path, tokenizer)
        return {"all parts": path}
    found = {name: _find_component(name, path, config, tokenizer) for name, path in _chosen(config).items()}
    if "autoencoder" not in found:
        found["autoencoder"] = _run_checkpoint(workdir, "autoencoder", config, "base")
    return found


def _whole_beginning(config: ConfigDict, workdir: epath.Path) -> epath.Path:
    """The checkpoint that a run of `experts`, or of `base` with init_from, starts from.

    For `base` it is one of `base`, for `experts` one of either.
    """
    given, flag = config.phases[config.phase].init_from, f"config.phases.{config.phase}.init_from"
    if not given:
        return _run_checkpoint(workdir, "base", config, "experts")
    if config.phase == "base":
        check_alone(config)
    path = checkpointing.find(given, flag)
    metadata = checkpointing.read_metadata(path)
    if metadata["phase"] not in ("base", config.phase):
        raise UserError(
            f"--{flag}={given} is of the phase {metadata['phase']}, from which {config.phase} cannot start"
            + (
                "; train with --config=…:experts and --config.phases.experts.init_from"
                if config.phase == "base"
                else ""
            )
        )
    if metadata["config"].get("lora", {}).get("rank"):
        raise UserError(
            f"--{flag}={given} has only adapters: merge them first, with `checkpoint export {given} FOLDER`"
        )
    other_size = ("model.image_size",) if config.phase == "base" else ()
    compatibility.check_same(path, config, metadata["phase"], but=other_size)
    return path


def _check_branch(path: epath.Path, tokenizer: Tokenizer) -> None:
    if not checkpointing.same_tokenizer(checkpointing.read_tokenizer(path), tokenizer):
        raise UserError(
            f"checkpoint {path} has another tokenizer than the data; prepare the data with "
            f"--config.tokenizer.path={path}"
        )


def _branch(path: epath.Path, config: ConfigDict, model: Model, tokenizer: Tokenizer, mesh: Mesh) -> dict[str, Any]:
    """The averages of a checkpoint, with its autoencoder: of its one U-Net, or of the experts to be trained."""
    _check_branch(path, tokenizer)
    single = checkpointing.read_metadata(path)["phase"] == "base"
    names = [expert_name(stage) for stage in ((0,) if single else config.experts.train or range(config.experts.n))]
    abstract = {
        "autoencoder": model.abstract_autoencoder(),
        "text_encoder": {"ema": model.abstract_text_encoder()},
        **{name: {"ema": model.abstract_unet()} for name in names},
    }
    abstract = rules.placed(abstract, rules.shardings(abstract, mesh))
    items = checkpointing.read_items(path, abstract)
    experts = [items[name]["ema"] for name in names]
    start = {"autoencoder": items["autoencoder"], "text_encoder": items["text_encoder"]["ema"]}
    return {**start, "unet": experts[0]} if single else {**start, "experts": experts}


def read_components(config: ConfigDict, model: Model, tokenizer: Tokenizer, mesh: Mesh) -> dict[str, Any]:
    """The components that config.phases.base.*_from name, on the mesh: what `DiffusionTask` takes as its start."""
    chosen = _chosen(config)
    return {name: _read(name, path, config, model, tokenizer, mesh) for name, path in chosen.items()}


def check_alone(config: ConfigDict) -> None:
    """Raises UserError if config.phases.base.init_from, which brings all components, is combined with `*_from`."""
    for name in _chosen(config):
        raise UserError(
            "--config.phases.base.init_from brings all components, so it does not go with "
            f"--config.phases.base.{name}_from: give one of the two"
        )


def _chosen(config: ConfigDict) -> dict[str, str]:
    return {name: path for name in components.ITEMS if (path := config.phases.base[f"{name}_from"])}


def _find_component(component: str, given: str, config: ConfigDict, tokenizer: Tokenizer | None) -> epath.Path:
    """The checkpoint of a component. Raises UserError if it does not match the config and the data."""
    flag, item = f"config.phases.base.{component}_from", components.ITEMS[component]
    path = checkpointing.find(given, flag)
    metadata = checkpointing.read_metadata(path, item)
    if component == "autoencoder" and metadata["phase"] == "autoencoder":
        raise UserError(
            f"--{flag}={given} is an autoencoder's training, which has not measured the mean and deviation of its "
            "latents: name a run whose phase `base` has begun, or put it into this --workdir as autoencoder/"
        )
    theirs = components.values_of(component, checkpointing.read_config(path, default_config(), item))
    ours = components.values_of(component, config)
    different = {name: value for name, value in theirs.items() if ours.get(name) != value}
    if different:
        raise UserError(f"--{flag}={given} is of other sizes than the config; give {components.flags_of(different)}")
    if component == "text_encoder" and tokenizer is not None:
        _check_tokenizer(path, given, tokenizer)
    return path


def _read(component: str, given: str, config: ConfigDict, model: Model, tokenizer: Tokenizer, mesh: Mesh) -> Any:
    path, item = _find_component(component, given, config, tokenizer), components.ITEMS[component]
    abstract: Any = {
        "autoencoder": model.abstract_autoencoder,
        "text_encoder": lambda: {"ema": model.abstract_text_encoder()},
        "unet": lambda: {"ema": model.abstract_unet()},
    }[component]()
    tree = checkpointing.read_items(path, {item: rules.placed(abstract, rules.shardings(abstract, mesh))})[item]
    logging.info("%s begins as that of %s", component.replace("_", " "), path)
    return tree if component == "autoencoder" else tree["ema"]


def _check_tokenizer(path: epath.Path, given: str, tokenizer: Tokenizer) -> None:
    if not checkpointing.same_tokenizer(checkpointing.read_tokenizer(path), tokenizer):
        raise UserError(
            f"--config.phases.base.text_encoder_from={given} reads with another vocabulary than the data were prepared "
            f"with; prepare them again with --config.tokenizer.path={path}"
        )
