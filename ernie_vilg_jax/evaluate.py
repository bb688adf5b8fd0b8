"""Scores a model, or the images of any other one: FID and its relatives, CLIP score, binding, each with its interval.

  python -m ernie_vilg_jax.evaluate --checkpoint=runs/mine --prompts=prompts.csv --metrics=binding,alignment \\
    --output=scores
  python -m ernie_vilg_jax.evaluate --images=other_model/ --prompts=DrawBench.csv --metrics=clip_score,r_precision \\
    --weights=clip=clip-vit-large-patch14 --output=scores_other
  python -m ernie_vilg_jax.evaluate --checkpoint=runs/paper --prompts=captions_val2014.json --count=30000 \\
    --reference=val2014 --metrics=fid,clip_score --guidance_scales=1.5,2.1,3,5 --candidates=4 --rerank=clip \\
    --weights=inception=inception.safetensors,clip=clip-vit-large-patch14 --output=scores_coco

The last one is the zero-shot protocol on COCO: 30,000 captions, a sweep of guidance scales, and with --candidates the
best of several images. --checkpoint=demo is the model in the package. --prompts is a file of prompts in any of the
usual forms (docs/evaluation.md); images of --images are named after the ids in it, such as ID.png or ID_0.png.

Writes images, results.json and report.html to --output. The same command goes on where it was interrupted. Several
processes share the work if they are started as in `train`.
"""

from __future__ import annotations

import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags, logging

from ernie_vilg_jax import cli, shared_flags
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.paths import cache_folder, check_writable, local

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from ernie_vilg_jax.evaluation.evaluate import Setting
    from ernie_vilg_jax.pipeline.prompts import Prompt

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Checkpoint folder, --workdir of a training run, or demo.")
_IMAGES = flags.DEFINE_string("images", None, "In place of --checkpoint: a folder of images of the prompts.")
_PROMPTS = flags.DEFINE_string(
    "prompts", None, "File of prompts: .txt, .csv, .tsv, .jsonl, COCO's .json; or the set things, shapes, demo, ..."
)
_LANGUAGE = flags.DEFINE_enum("language", "", ["", "en", "zh"], "Only prompts in this language.")
_COUNT = flags.DEFINE_integer("count", 0, "Draw so many prompts; 0 takes all.", lower_bound=0)
_METRICS = flags.DEFINE_list("metrics", ["alignment"], "What to compute; docs/evaluation.md has the list.")
_REFERENCE = flags.DEFINE_string("reference", None, "Real images to compare with: a folder, or prepared data.")
_SPLIT = flags.DEFINE_enum("reference_split", "holdout", ["holdout", "train"], "Of prepared data.")
_WEIGHTS = flags.DEFINE_list("weights", [], "Files of networks: NAME=PATH, such as clip=FOLDER,inception=FILE.")
_SCALES = flags.DEFINE_list("guidance_scales", [], "A sweep: all scores at each of these.")
_RERANK = flags.DEFINE_string("rerank", None, "With --candidates: the scorer that chooses, such as clip or alignment.")
_CARD = flags.DEFINE_string("card", None, "With --checkpoint: also write a model card to this Markdown file.")
_OUTPUT = flags.DEFINE_string("output", "scores", "Folder to write.")
_MODE = flags.DEFINE_string("mode", "resident", "Where the experts are: resident, streamed or pipelined.")
_MESH = flags.DEFINE_list("mesh", None, "Devices along each axis, such as data=4; one device without it.")
shared_flags.define_sampling()
shared_flags.define_processes()
flags.adopt_module_key_flags(shared_flags)


def main(argv: list[str]) -> None:
    del argv
    if (_CHECKPOINT.value is None) == (_IMAGES.value is None):
        raise UserError("give either --checkpoint=, of a model to make images with, or --images=, a folder of them")
    if _PROMPTS.value is None:
        raise UserError("--prompts is missing: name a file of prompts, one per line, or a table")
    if _CARD.value is not None:
        if _CHECKPOINT.value is None:
            raise UserError("--card is for a model, --checkpoint=; images alone do not say what made them")
        check_writable(_CARD.value, "card")
    check_writable(_OUTPUT.value, "output", "results.json")
    if shared_flags.have_peers():
        cli.silence_runtime()

    import jax

    from ernie_vilg_jax.evaluation import card, evaluate, image_sets, making, report, scorers
    from ernie_vilg_jax.evaluation.on_mesh import on_mesh
    from ernie_vilg_jax.pipeline.prompts import by_language
    from ernie_vilg_jax.sharding import processes
    from ernie_vilg_jax.sharding.mesh import make_mesh

    cli.enable_compilation_cache()
    if len(_SCALES.value) > 1:
        report.figures()
    options = shared_flags.sampling_options(without=("seed", "num_images"))
    seed, each = flags.FLAGS["seed"].value or 0, flags.FLAGS["num_images"].value or 1
    config = None if _CHECKPOINT.value is None else making.config_of(_CHECKPOINT.value)
    prompts = _prompts(config, seed)
    logging.info("%d prompts: %s", len(prompts), by_language(prompts))
    paths = scorers.paths_of(_WEIGHTS.value)
    names = evaluate.needed(_METRICS.value, _REFERENCE.value is not None)
    reference = None if _REFERENCE.value is None else image_sets.reference_of(_REFERENCE.value, _SPLIT.value)
    output = local(_OUTPUT.value, "output")
    with processes.together(*shared_flags.peers()):
        mesh = make_mesh({"data": -1}, jax.local_devices())
        networks = {name: on_mesh(scorers.network(name, paths), mesh) for name in names}
        if _IMAGES.value is not None:
            settings = [evaluate.Setting("", {}, partial(image_sets.of_prompts, _IMAGES.value, prompts))]
        else:
            settings = _sweep(prompts, options, paths, output, seed, each)
        about = {
            "checkpoint": _CHECKPOINT.value,
            "images": _IMAGES.value,
            "prompts": Path(_PROMPTS.value).name,
            "reference": _REFERENCE.value,
            "options": {**options, "seed": seed, "num_images": each, "rerank": _RERANK.value},
        }
        with shared_flags.naming_flags():
            results = evaluate.evaluate(
                settings, _METRICS.value, networks, reference, output, about, cache_folder() / "features"
            )
        if processes.index() == 0:
            report.write(results, about, output)
            if _CARD.value is not None and config is not None:
                card.write(Path(_CARD.value), _CHECKPOINT.value or "", _command(), config, results, about)
            logging.info("see %s", output / report.REPORT)


def _prompts(config: ConfigDict | None, seed: int) -> list[Prompt]:
    from ernie_vilg_jax.evaluation import prompt_sets
    from ernie_vilg_jax.pipeline.prompts import choose, read_prompts

    given = _PROMPTS.value or ""
    named = given in prompt_sets.SETS
    prompts = prompt_sets.prompt_set(given, config) if named else read_prompts(given, seed=seed)
    return choose(prompts, f"--prompts={given}", _LANGUAGE.value, _COUNT.value, seed)


def _command() -> str:
    """This command, as it can be typed again."""
    return " ".join(["python -m ernie_vilg_jax.evaluate", *map(shlex.quote, sys.argv[1:])])


def _sweep(
    prompts: list[Prompt], options: dict[str, Any], paths: dict[str, str], output: Path, seed: int, each: int
) -> list[Setting]:
    """A setting for each guidance scale, or one with the checkpoint's own."""
    from ernie_vilg_jax.evaluation import evaluate, making, scorers
    from ernie_vilg_jax.pipeline.rerank import check_scorer

    if "guidance_scale" in options and _SCALES.value:
        raise UserError("--guidance_scale and --guidance_scales: give one of them")
    try:
        points = [{"guidance_scale": float(scale)} for scale in _SCALES.value] or [{}]
    except ValueError as error:
        raise UserError(f"--guidance_scales={','.join(_SCALES.value)} must be numbers, such as 1.5,3,5") from error
    rerank = None if _RERANK.value is None else scorers.make_scorer(_RERANK.value, paths)
    with shared_flags.naming_flags():
        check_scorer(options.get("candidates", 1), rerank)
    subject = making.Subject.of(_CHECKPOINT.value, _MODE.value, shared_flags.axis_sizes(_MESH.value))
    settings = []
    for point in points:
        name = ",".join(f"{key}={value:g}" for key, value in point.items())
        folder = output / "images" / (name or "all")
        chosen = {**options, **point}
        make = partial(subject.make, prompts, folder, chosen, rerank=rerank, each=each, seed=seed)
        settings.append(evaluate.Setting(name, point, make))
    return settings


def run() -> None:
    """Console entry point."""
    cli.run(main)


if __name__ == "__main__":
    run()
