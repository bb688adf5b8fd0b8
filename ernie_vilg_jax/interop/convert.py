"""`python -m ernie_vilg_jax.checkpoint import_*` and `export_*`: folders of weights to checkpoints, and back.

Each function reads folders, writes one, and returns the text for the user.
"""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from ernie_vilg_jax import checkpointing
from ernie_vilg_jax.aliases import Params
from ernie_vilg_jax.config import default_config, flat
from ernie_vilg_jax.data import tokenizers
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.interop import autoencoder_kl, bert, components, unet_2d, warm_start
from ernie_vilg_jax.interop.safetensors_files import FILES, open_tensors, read_config, write_folder
from ernie_vilg_jax.model import Model, build_model

VOCABULARIES = ("vocab.txt", "tokenizer.json")


def import_autoencoder(
    source: str | Path, output: epath.PathLike, *, config_json: str | None = None, overwrite: bool = False
) -> str:
    """An AutoencoderKL of diffusers as a component that training can start from."""
    target = components.free(output, source, overwrite)
    config = default_config()
    fields, autoencoder = autoencoder_kl.read(read_config(source, config_json), open_tensors(source))
    config.model.autoencoder.update(fields)
    components.write_component(target, "autoencoder", autoencoder, config)
    mean, std = (np.unique(autoencoder[name].round(4)) for name in ("mean", "std"))
    latents = f"latents of mean {_numbers(mean)} and deviation {_numbers(std)}"
    return _told(output, "autoencoder", autoencoder["params"], config, latents)


def import_text_encoder(source: str | Path, output: epath.PathLike, *, max_length: int, overwrite: bool = False) -> str:
    """A BERT or ERNIE encoder of transformers, with its vocabulary, as a component that training can start from."""
    target, source = components.free(output, source, overwrite), Path(source)
    their_config, tensors = read_config(source), open_tensors(source)
    if not any((source / name).is_file() for name in VOCABULARIES):
        raise UserError(
            f"{source} holds no vocab.txt or tokenizer.json: put the vocabulary that the text encoder reads with "
            "beside it"
        )
    tokenizer = tokenizers.BertTokenizer(tokenizers.read_vocabulary(str(source)), max_length)
    fields, params = bert.read(their_config, tensors, tokenizer.vocab_size, max_length)
    config = default_config()
    config.model.text_encoder.update(fields)
    words = {"kind": "bert", "vocab_size": tokenizer.vocab_size, "max_length": max_length}
    config.tokenizer.update(words, path="")
    components.write_component(target, "text_encoder", params, config, tokenizer)
    told = _told(output, "text_encoder", params, config, f"a vocabulary of {tokenizer.vocab_size}")
    wanted = {f"tokenizer.{name}": value for name, value in {**words, "path": str(source)}.items()}
    return f"{told}\nIts vocabulary goes to `prepare` and to `train`:\n  {components.flags_of(wanted)}"


def import_unet(
    source: str | Path,
    output: epath.PathLike,
    config: ConfigDict,
    *,
    config_json: str | None = None,
    overwrite: bool = False,
) -> str:
    """A U-Net of `config`'s sizes as a component that training can start from: what fits of `source`, the rest fresh.

    `source` is a UNet2DConditionModel of diffusers, or one of our runs or checkpoints, of any size. The report,
    tensor by tensor, is written to warm_start.txt.
    """
    target = components.free(output, source, overwrite)
    model = build_model(config)
    fresh = jax.tree.map(np.array, jax.jit(model.init_unet)(jax.random.key(config.seed)))
    notes = []
    if _is_ours(source):
        tensors = warm_start.as_tensors(str(source), _our_unet(source))
        params, report = warm_start.fit(fresh, lambda path: (path,), tensors, lambda path, shape: "")
    else:
        theirs, tensors = read_config(source, config_json), open_tensors(source)
        unet_2d.check_class(theirs, str(source))
        levels = len(config.model.unet.channel_multipliers)
        params, report = warm_start.fit(fresh, unet_2d.names(levels), tensors, unet_2d.reason(levels, tensors))
        if other := unet_2d.differences(theirs, config.model.unet.head_channels):
            notes.append(f"It computes differently from ours: {', '.join(other)}.")
        sizes = {f"model.unet.{name}": value for name, value in unet_2d.fields(theirs).items()}
        if different := {name: value for name, value in sizes.items() if flat(config)[name] != value}:
            notes.append(f"With its own sizes, more would fit: {components.flags_of(different)}")
    if not report.taken:
        raise UserError(f"no tensor of {source} fits the U-Net of --config. {' '.join(notes)}")
    unused = (f"not used: {name}" for name in report.unused)
    text = "\n".join([report.table(), *unused, report.summary(), ""])
    components.write_component(target, "unet", params, config, report=text)
    told = _told(output, "unet", params, config, report.summary())
    return "\n".join([report.table(), *notes, told])


def export_autoencoder(checkpoint: str | Path, output: epath.PathLike, *, overwrite: bool = False) -> str:
    """The autoencoder of a run or checkpoint, as a folder that AutoencoderKL.from_pretrained of diffusers loads."""
    target = components.free(output, checkpoint, overwrite)
    path, config, model = _open(checkpoint, "autoencoder")
    abstract: Params = model.abstract_autoencoder()
    training = checkpointing.read_metadata(path, "autoencoder")["phase"] == "autoencoder"
    if training:  # its latents are measured when `base` starts
        abstract = {"ema": abstract["params"]}
    tree = _read(path, "autoencoder", abstract)
    if training:
        channels = model.autoencoder.latent_channels
        tree = {"params": tree["ema"], "mean": np.zeros(channels), "std": np.ones(channels)}
    folder = autoencoder_kl.write(config.model.autoencoder, tree, config.model.image_size)
    size = write_folder(target, *folder)
    unknown = "; scaling_factor is 1, because its latents were not measured" if training else ""
    return f"{output}: {size / 2**20:.1f} MB{unknown}; diffusers.AutoencoderKL.from_pretrained({str(output)!r})"


def export_text_encoder(checkpoint: str | Path, output: epath.PathLike, *, overwrite: bool = False) -> str:
    """The text encoder of a run or checkpoint, as a folder that BertModel.from_pretrained of transformers loads."""
    target = components.free(output, checkpoint, overwrite)
    path, config, model = _open(checkpoint, "text_encoder")
    tokenizer = checkpointing.read_tokenizer(path)
    params = _read(path, "text_encoder", {"ema": model.abstract_text_encoder()})["ema"]
    sizes = (config.tokenizer.vocab_size, config.tokenizer.max_length, tokenizer.pad_id)
    folder = bert.write(config.model.text_encoder, params, *sizes)
    words, more = checkpointing.pack_tokenizer(tokenizer), {}
    if isinstance(tokenizer, tokenizers.BertTokenizer):  # else of SentencePiece, which BERT's does not read
        settings: dict[str, Any] = {"tokenizer_class": "BertTokenizer", "model_max_length": tokenizer.max_length}
        settings |= tokenizer.vocabulary.options()
        more["vocab.txt"] = words["vocab.txt"].tobytes()
        more["tokenizer_config.json"] = (json.dumps(settings, indent=2) + "\n").encode()
    size = write_folder(target, *folder, FILES[1], more)
    how = f"transformers.BertModel.from_pretrained({str(output)!r}, add_pooling_layer=False)"
    return f"{output}: {size / 2**20:.1f} MB; {how}"


def _open(checkpoint: str | Path, item: str) -> tuple[epath.Path, ConfigDict, Model]:
    path = checkpointing.find(checkpoint)
    config = checkpointing.read_config(path, default_config(), item)
    return path, config, build_model(config)


def _read(path: epath.Path, item: str, abstract: Params) -> Params:
    """The item as numpy fp32."""
    blank = jax.tree.map(lambda leaf: np.broadcast_to(np.zeros((), np.float32), leaf.shape), abstract)
    return checkpointing.read_items(path, {item: blank})[item]


def _is_ours(source: str | Path) -> bool:
    try:
        checkpointing.find(source)
    except UserError:
        return False
    return True


def _our_unet(source: str | Path) -> Params:
    path, _, model = _open(source, components.ITEMS["unet"])
    return _read(path, components.ITEMS["unet"], {"ema": model.abstract_unet()})["ema"]


def _told(output: epath.PathLike, component: str, params: Params, config: ConfigDict, more: str) -> str:
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    wanted = (
        f"{components.flags_of({f'phases.base.{component}_from': str(output)})} {components.flags(component, config)}"
    )
    return (
        f"{output}: {component.replace('_', ' ')} of {count / 1e6:.1f}M parameters; {more}\n"
        f"The phase `base` starts from it if `train` gets\n  {wanted}"
    )


def _numbers(values: np.ndarray) -> str:
    return f"{values[0]:g}" if len(values) == 1 else f"{values[0]:g} to {values[-1]:g}"
