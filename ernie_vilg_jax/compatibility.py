"""The fields of a config that a checkpoint must agree with, and those that affect how its training continues."""

from collections.abc import Collection

from etils import epath
from ml_collections import ConfigDict

from ernie_vilg_jax.checkpointing import read_config
from ernie_vilg_jax.config import default_config, differing, fields
from ernie_vilg_jax.errors import UserError

# Fields in which a checkpoint and the config of the next run must agree, by the checkpoint's phase.
AUTOENCODER = ("model.autoencoder", "model.image_size")
BASE = ("dtype", "model", "diffusion", "tokenizer.kind", "tokenizer.vocab_size", "tokenizer.max_length")
# How a model is computed and trained, which does not change what it is.
HOW = (
    ".remat",
    ".remat_keep",
    ".scan_layers",
    ".precision",
    ".two_pass_norm",
    "diffusion.min_snr_gamma",
)
SAME = {"autoencoder": AUTOENCODER, "base": BASE, "experts": (*BASE, "experts.n", "experts.stages")}
# Fields that affect how training continues, in each phase.
TRAINING = (
    *("knowledge", "optimizer", "data.weights", "data.language", "data.crop", "data.sizes", "data.smallest_side"),
    "train.caption_dropout",
    "diffusion.min_snr_gamma",
)


def check_same(path: epath.Path, config: ConfigDict, phase: str, but: Collection[str] = ()) -> None:
    """Raises UserError naming the fields in which a checkpoint of `phase` differs from `config` but must not.

    A field that is newer than the checkpoint had its default then. Fields in `but` may differ.
    """
    before, wanted = (fields(one, SAME[phase]) for one in (read_config(path, default_config()), config))
    names = [name for name in wanted if not name.endswith(HOW) and name not in but]
    if different := differing(before, wanted, names):
        told = [f"{name} ({was!r} in the checkpoint, {value!r} now)" for name, (was, value) in different.items()]
        raise UserError(
            f"checkpoint {path} is of another config: {'; '.join(told)}; use its config, or a new --workdir"
        )
