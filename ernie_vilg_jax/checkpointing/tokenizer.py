"""The tokenizer inside a checkpoint: its files, as arrays of bytes."""

import tempfile
from pathlib import Path

import numpy as np
from etils import epath

from ernie_vilg_jax.checkpointing.faults import reading
from ernie_vilg_jax.checkpointing.items import read_raw
from ernie_vilg_jax.checkpointing.metadata import check_items, read_metadata
from ernie_vilg_jax.data.tokenizers import FILES as TOKENIZER_FILES
from ernie_vilg_jax.data.tokenizers import Tokenizer, load_tokenizer
from ernie_vilg_jax.errors import UserError


def pack_tokenizer(tokenizer: Tokenizer) -> dict[str, np.ndarray]:
    """The tokenizer's files as arrays of bytes, by file name."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(folder)
        saved = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): np.frombuffer(path.read_bytes(), np.uint8) for path in saved}


def same_tokenizer(a: Tokenizer, b: Tokenizer) -> bool:
    """Whether both tokenise every text equally: whether their files are the same."""
    first, second = pack_tokenizer(a), pack_tokenizer(b)
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def read_tokenizer(path: epath.Path) -> Tokenizer:
    """The tokenizer inside a checkpoint. Its files have fixed names: others are refused before anything is written."""
    metadata = read_metadata(path, "tokenizer")
    saved = read_raw(path, "tokenizer")
    if not isinstance(saved, dict) or not saved or not set(saved) <= set(TOKENIZER_FILES):
        names = ", ".join(map(repr, saved)) if isinstance(saved, dict) else type(saved).__name__
        raise UserError(
            f"the tokenizer in checkpoint {path} holds {names[:200] or 'nothing'}, where only "
            f"{', '.join(TOKENIZER_FILES)} can be: do not trust this checkpoint, get it again from its origin"
        )
    check_items(path, {"tokenizer": saved}, metadata)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in saved.items():
            (Path(folder) / name).write_bytes(np.asarray(content).tobytes())
        with reading(path):
            return load_tokenizer(folder)
