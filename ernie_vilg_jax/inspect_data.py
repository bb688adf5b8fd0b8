"""Writes an HTML page of training examples, to be looked at before a model is trained on them.

  python -m ernie_vilg_jax.inspect_data --config=configs/demo.py:knowledge --config.data.path=data/annotated \\
    --output=look.html

Shows each picture with its salient objects and loss weights, its caption with key words coloured by part of speech, and
its tokens with their attention weights: exactly what the loader hands to the training step. Every example is
emphasised, unless --as_trained draws the config's shares of samples.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from absl import flags, logging
from ml_collections import config_flags

from ernie_vilg_jax import cli
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.paths import check_writable, write_atomically

_CONFIG = config_flags.DEFINE_config_file("config", None, "The config to train with: configs/NAME.py:argument.")
_OUTPUT = flags.DEFINE_string("output", "inspect.html", "File to write.")
_SPLIT = flags.DEFINE_enum("split", "train", ["train", "holdout"], "Which records to show.")
_COUNT = flags.DEFINE_integer("count", 24, "How many, drawn at random.", lower_bound=1)
_IDS = flags.DEFINE_list("ids", [], "Show these records (by their ids) instead.")
_SEED = flags.DEFINE_integer("seed", 0, "Another seed shows others.")
_AS_TRAINED = flags.DEFINE_bool("as_trained", False, "Emphasise and drop captions at the config's rates only.")
flags.mark_flag_as_required("config")


def main(argv: list[str]) -> None:
    del argv
    from ernie_vilg_jax.data.examples import ExampleMaker
    from ernie_vilg_jax.data.inspect_page import page
    from ernie_vilg_jax.data.loader import check_data
    from ernie_vilg_jax.data.records import open_split, read_manifest
    from ernie_vilg_jax.data.tokenizers import load_tokenizer

    config = _CONFIG.value
    check_writable(_OUTPUT.value, "output")
    check_data(config)
    config.phase = "base"
    config.knowledge.enabled = True
    if not _AS_TRAINED.value:
        config.knowledge.text_rate = config.knowledge.image_rate = 1.0
        config.train.caption_dropout = 0.0
    source = open_split(config.data.path, _SPLIT.value, verify=config.data.verify_shards, images=True)
    maker = ExampleMaker.of(config, load_tokenizer(config), source, train=True)
    if _IDS.value:
        places = {source[i].id: i for i in range(len(source))}
        if unknown := [name for name in _IDS.value if name not in places]:
            raise UserError(f"--ids: {_SPLIT.value} of {config.data.path} has no record {unknown[0]!r}")
        chosen = [places[name] for name in _IDS.value]
    else:
        count = min(_COUNT.value, len(source))
        chosen = np.random.default_rng(_SEED.value).choice(len(source), count, replace=False).tolist()
    drawn = [maker.draw(index, np.random.default_rng([_SEED.value, index])) for index in chosen]
    notes = [
        f"{len(drawn)} of {len(source)} {_SPLIT.value} records of {config.data.path}; attention to key words "
        f"×{1 + config.knowledge.attention_weight:g}, loss inside salient objects ×{1 + config.knowledge.loss_weight:g}"
    ]
    if "annotation" not in read_manifest(config.data.path):
        notes.append("Not annotated, so there are no key words: python -m ernie_vilg_jax.annotate finds them.")
        logging.warning("%s is not annotated: the page shows no key words", config.data.path)
    html = page(maker, drawn, title=f"Training examples: {config.name}", notes=notes)
    write_atomically(Path(_OUTPUT.value), html.encode())
    logging.info("%d examples in %s: open it in a browser", len(drawn), _OUTPUT.value)


def run() -> None:
    """Console entry."""
    cli.run(main)


if __name__ == "__main__":
    run()
