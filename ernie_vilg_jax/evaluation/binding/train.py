r"""Trains the checker of composed scenes on scenes drawn here; writes one .safetensors file.

  python -m ernie_vilg_jax.evaluation.binding.train --data=data/binding --output=checker.safetensors

The emoji art is fetched from the npm registry once. The first run draws the scenes into --data (a minute per 20,000
scenes and core): every second one is of the composed source, the others have deformed things on plain grounds. A
quarter of them passes the demo's autoencoder, so that the checker has seen its blur. Runs that use other options need
another folder. The committed weights took the default options (docs/evaluation_binding.md).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from absl import app, flags, logging

from ernie_vilg_jax.errors import UserError

_DATA = flags.DEFINE_string("data", "data/binding", "folder of the drawn scenes, written if it is empty")
_OUTPUT = flags.DEFINE_string("output", "checker.safetensors", "where the weights go")
_SCENES = flags.DEFINE_integer("scenes", 100_000, "number of scenes to draw", lower_bound=1)
_SECONDS = flags.DEFINE_integer("seconds", 2100, "training time", lower_bound=1)
_START = flags.DEFINE_string("start", None, "go on from these weights")
_RATE = flags.DEFINE_float("learning_rate", 2e-3, "at its highest; falls to zero along a cosine", 0.0)
_STEPS = flags.DEFINE_integer("steps", 0, "number of updates, instead of --seconds", lower_bound=0)
_BATCH = flags.DEFINE_integer("batch_size", 64, "scenes per update", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "seed of scenes and training")
_THINGS = flags.DEFINE_list(
    "things", None, "everyday things to know beside the drawn shapes; default: all of the composed source"
)
_ROUND_TRIP = flags.DEFINE_float("round_trip", 0.25, "fraction of scenes that passes the autoencoder", 0.0, 1.0)


def main(argv: list[str]) -> None:
    del argv
    from ernie_vilg_jax.evaluation.binding import weights
    from ernie_vilg_jax.evaluation.binding.composed import COMPOSED_NOUNS, ComposedScenes
    from ernie_vilg_jax.evaluation.binding.drawing import Scene, draw_scene
    from ernie_vilg_jax.evaluation.binding.drawn import COMMAND, PARTS
    from ernie_vilg_jax.evaluation.binding.nouns import nouns_named
    from ernie_vilg_jax.evaluation.binding.presence import fit_presence
    from ernie_vilg_jax.evaluation.binding.round_trip import quiet_load, round_trip
    from ernie_vilg_jax.evaluation.binding.scene_files import Scenes, draw_scenes
    from ernie_vilg_jax.evaluation.binding.sprites import STYLES, make_sprites
    from ernie_vilg_jax.evaluation.binding.training import Settings, fit

    output = Path(_OUTPUT.value)
    if output.suffix != ".safetensors" or not output.parent.is_dir():
        raise UserError(f"--output={output} must be a .safetensors file in an existing folder")
    nouns = COMPOSED_NOUNS if _THINGS.value is None else nouns_named(_THINGS.value)
    recipe = {
        "nouns": [noun.en for noun in nouns],
        "styles": list(STYLES),
        "scenes": _SCENES.value,
        "seed": _SEED.value,
        "round_trip": _ROUND_TRIP.value,
        "composed": _THINGS.value is None,
    }
    scenes = Scenes.open(Path(_DATA.value), recipe)
    if scenes is None:
        sprites = make_sprites(nouns, STYLES)
        logging.info("%d pieces of art of %d things", len(sprites.noun), len(nouns))
        composed = ComposedScenes(nouns, _SEED.value) if recipe["composed"] else None

        def draw(index: int) -> Scene:
            return composed.scene(index) if composed and index % 2 else draw_scene(sprites, _SEED.value, index)

        scenes = draw_scenes(Path(_DATA.value), recipe, draw, round_trip(quiet_load()))
    start = time.monotonic()
    settings = Settings(_BATCH.value, _STEPS.value, _SECONDS.value, _RATE.value, seed=_SEED.value)
    first = None
    if _START.value:
        first, known, _ = weights.read(Path(_START.value), PARTS, COMMAND)
        if known != nouns:
            raise UserError(f"--start={_START.value} knows other things: name the same --things")
    params = fit(scenes, len(nouns), settings, first)
    params["presence"] = fit_presence(params, scenes)
    size = weights.write(output, params, nouns)
    logging.info("trained for %.0f s; %s has %.1f MB", time.monotonic() - start, output, size / 1e6)


def run() -> None:
    try:
        app.run(main)
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    run()
