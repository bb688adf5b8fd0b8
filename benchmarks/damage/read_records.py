"""Reads all records of prepared data as training would, and prints digests of them.

python -m benchmarks.damage.read_records --config=configs/demo.py:base,smoke --config.data.path=data/demo
"""

import hashlib

import numpy as np
from ml_collections import config_flags

from ernie_vilg_jax import cli

CONFIG = config_flags.DEFINE_config_file("config", None, "The config to train with.")


def main(argv: list[str]) -> None:
    from ernie_vilg_jax.data.loader import make_loader
    from ernie_vilg_jax.data.records import open_split
    from ernie_vilg_jax.data.tokenizers import load_tokenizer

    del argv
    config = CONFIG.value
    tokenizer = load_tokenizer(config)
    for split in ("train", "holdout"):
        source, digest = open_split(config.data.path, split), hashlib.sha256()
        for index in range(len(source)):
            digest.update(source[index].pack())
        for batch in make_loader(config, tokenizer, split=split, batch_size=4, seed=1, epochs=1):
            for name in sorted(batch):
                digest.update(np.ascontiguousarray(batch[name]).tobytes())
        print(f"{split} {digest.hexdigest()}")


if __name__ == "__main__":
    cli.run(main)
