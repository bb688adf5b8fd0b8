"""Which fields of a config a checkpoint must agree with, and which decide how its training goes on."""

from etils import epath
from ml_collections import ConfigDict

from ernie_vilg_jax.checkpointing import read_config
from ernie_vilg_jax.config import default_config, fields
from ernie_vilg_jax.errors import UserError

# What must agree between a checkpoint and the config that goes on with it, by the checkpoint's phase.
AUTOENCODER = ("model.autoencoder", "model.image_size")
BASE = ("dtype", "model", "diffusion", "tokenizer.kind", "tokenizer.vocab_size", "tokenizer.max_length")
# How a model is computed, and how it is trained: no part of what it is.
HOW = (
    ".remat",
    ".remat_keep",
    ".scan_layers",
    ".precision",
    ".two_pass_norm",
    "diffusion.min_snr_gamma",
)
SAME = {"autoencoder": AUTOENCODER, "base": BASE, "experts": (*BASE, "experts.n", "experts.stages")}
# What decides how training goes on, in each phase.
TRAINING = (
    *("knowledge", "optimizer", "data.weights", "data.language", "data.crop", "train.caption_dropout"),
    "diffusion.min_snr_gamma",
)


def check_same(path: epath.Path, config: ConfigDict, phase: str) -> None:
    """Raises UserError naming the fields in which a checkpoint of `phase` differs from `config` and must not.

    A field that is younger than the checkpoint had its default then.
    """
    before, wanted = (fields(one, SAME[phase]) for one in (read_config(path, default_config()), config))
    different = [
        f"{name} ({before.get(name)!r} in the checkpoint, {value!r} now)"
        for name, value in wanted.items()
        if not name.endswith(HOW) and before.get(name) != value
    ]
    if different:
        raise UserError(
            f"checkpoint {path} is of another config: {'; '.join(different)}; use its config, or a new --workdir"
        )
