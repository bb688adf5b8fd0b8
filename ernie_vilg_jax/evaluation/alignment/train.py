r"""Trains the alignment scorer of the demo's domain on the features of the binding checker.

  python -m ernie_vilg_jax.evaluation.alignment.train --output=alignment.safetensors

The images are renders of the checker's things: full-colour emoji, recoloured silhouettes and drawn shapes; alone, in
pairs, and counted; a third of them through the demo's autoencoder, a third blurred. The texts are Chinese and English
sentences about them. The emoji art is fetched from the npm registry. Minutes on one core.
"""

from __future__ import annotations

import sys
from pathlib import Path

from absl import app, flags, logging

from ernie_vilg_jax.errors import UserError

_OUTPUT = flags.DEFINE_string("output", "alignment.safetensors", "where the weights go")
_CHECKER = flags.DEFINE_string("checker", None, "weights of the binding checker (default: those of the package)")
_IMAGES = flags.DEFINE_integer("images", 4000, "renders of each look", lower_bound=8)
_STEPS = flags.DEFINE_integer("steps", 1500, "updates", lower_bound=1)
_LOOKS = flags.DEFINE_list("looks", ["shapes", "silhouettes", "art"], "which looks; shapes need no registry")
_SEED = flags.DEFINE_integer("seed", 0, "seed of renders and training")


def main(argv: list[str]) -> None:
    del argv
    from ernie_vilg_jax.data.files import file_sha256
    from ernie_vilg_jax.evaluation.alignment import learning
    from ernie_vilg_jax.evaluation.alignment.examples import make_examples
    from ernie_vilg_jax.evaluation.binding import weights
    from ernie_vilg_jax.evaluation.binding.drawn import WEIGHTS, DrawnChecker
    from ernie_vilg_jax.evaluation.binding.renders import LOOKS

    output = Path(_OUTPUT.value)
    if output.suffix != ".safetensors" or not output.parent.is_dir():
        raise UserError(f"--output={output} must be a .safetensors file in an existing folder")
    if unknown := [look for look in _LOOKS.value if look not in LOOKS]:
        raise UserError(f"--looks={unknown[0]} is not known: take some of {', '.join(LOOKS)}")
    file = Path(_CHECKER.value or WEIGHTS)
    checker = DrawnChecker(file)
    pairs = make_examples(checker, _LOOKS.value, _IMAGES.value, _SEED.value)
    logging.info("%d images, %d texts", len(pairs.features), len(pairs.tokens))
    params = learning.fit(pairs, _STEPS.value, seed=_SEED.value)
    size = weights.write(output, params, checker.nouns, stands_on=file_sha256(file))
    logging.info("%s has %.1f MB", output, size / 1e6)


def run() -> None:
    try:
        app.run(main)
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    run()
