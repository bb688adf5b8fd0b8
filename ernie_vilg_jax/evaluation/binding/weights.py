"""Files of small trained networks: fp16 tensors, with the vocabulary in the metadata."""

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


def write(file: Path, params: Params, nouns: Sequence[Noun], stands_on: str = "") -> int:
    """Writes parameters in fp16 and the vocabulary; `stands_on` is the digest of the file that it needs.

    Returns bytes.
    """
    tensors = {name: np.asarray(value, np.float16) for name, value in flatten_dict(params, sep="/").items()}
    names = json.dumps([dataclasses.asdict(noun) for noun in nouns], ensure_ascii=False)
    content = save(tensors, {"nouns": names, "stands_on": stands_on})
    with file_errors(file):
        write_atomically(file, content)
    return len(content)


def read(file: Path, parts: Sequence[str], command: str) -> tuple[Params, tuple[Noun, ...], str]:
    """Parameters in fp32, the vocabulary and `stands_on`.

    Args:
      file: what `write` wrote.
      parts: keys that the parameters must have.
      command: the module that writes such files, for messages.

    Raises UserError if the file is missing, damaged or not such a file.
    """
    try:
        with safe_open(file, framework="np") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name).astype(np.float32) for name in opened.keys()}  # noqa: SIM118
        nouns = tuple(Noun(**noun) for noun in json.loads(metadata["nouns"]))
        params = unflatten_dict(tensors, sep="/")
        if missing := set(parts) - set(params):
            raise KeyError(*missing)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise file_error(error, file) or UserError(
            f"{file} is not a file of python -m {command}: run that, or get another copy of the file"
        ) from error
    return params, nouns, metadata.get("stands_on", "")
