"""The file of a trained checker: fp16 tensors, with its vocabulary in the metadata."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ernie_vilg_jax.aliases import Params
from ernie_vilg_jax.errors import UserError, file_error, file_errors
from ernie_vilg_jax.evaluation.binding.nouns import Noun
from ernie_vilg_jax.paths import write_atomically


def write(file: Path, params: Params, nouns: Sequence[Noun]) -> int:
    """Writes parameters in fp16 and the vocabulary. Returns bytes."""
    tensors = {name: np.asarray(value, np.float16) for name, value in flatten_dict(params, sep="/").items()}
    metadata = {"nouns": json.dumps([dataclasses.asdict(noun) for noun in nouns], ensure_ascii=False)}
    content = save(tensors, metadata)
    with file_errors(file):
        write_atomically(file, content)
    return len(content)


def read(file: Path) -> tuple[Params, tuple[Noun, ...]]:
    """Parameters in fp32, and the vocabulary. Raises UserError if the file is not one of a checker."""
    try:
        with safe_open(file, framework="np") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name).astype(np.float32) for name in opened.keys()}  # noqa: SIM118
        nouns = tuple(Noun(**noun) for noun in json.loads(metadata["nouns"]))
        params = unflatten_dict(tensors, sep="/")
        if not {"finder", "namer"} <= set(params):
            raise KeyError("finder")
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise file_error(error, file) or UserError(
            f"{file} is not the weights of a binding checker: train one with "
            "python -m ernie_vilg_jax.evaluation.binding.train"
        ) from error
    return params, nouns
