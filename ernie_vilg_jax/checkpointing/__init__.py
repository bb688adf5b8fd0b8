"""Checkpoints: the only package that uses Orbax.

A checkpoint is a folder of items, each restorable alone:

    train          step and PRNG key
    autoencoder    {"params", "ema", "opt"} in its own training; {"params", "mean", "std"} once frozen
    text_encoder   {"ema"} and, if it is trained, "params" and "opt"
    expert_00 ...  {"ema", "params", "opt"} of each expert
    tokenizer      its files, as bytes

and metadata: the config, the phase, the fingerprint of the data and the number of examples seen, a checksum of each
array (`checksums.py`) and one of the metadata itself. They are compared when a checkpoint is read. A checkpoint for
sampling is the same folder with only the "ema" of each expert and of the text encoder, in bf16.
"""

from ernie_vilg_jax.checkpointing.folders import expert_name, find, item_names, phase_folder, remedy, steps
from ernie_vilg_jax.checkpointing.items import Checkpoints, join, read_items, read_whole, save_once
from ernie_vilg_jax.checkpointing.metadata import examples_seen, make_metadata, read_config, read_metadata
from ernie_vilg_jax.checkpointing.tokenizer import pack_tokenizer, read_tokenizer, same_tokenizer

__all__ = [
    "Checkpoints",
    "examples_seen",
    "expert_name",
    "find",
    "item_names",
    "join",
    "make_metadata",
    "pack_tokenizer",
    "phase_folder",
    "read_config",
    "read_items",
    "read_metadata",
    "read_tokenizer",
    "read_whole",
    "remedy",
    "same_tokenizer",
    "save_once",
    "steps",
]
