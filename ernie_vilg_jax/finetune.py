"""Fine-tunes a model on your own images: prepares them, trains, keeps the best, shows before and after.

  python -m ernie_vilg_jax.finetune --from=demo --images=my_images --output=runs/mine
  python -m ernie_vilg_jax.sample --checkpoint=runs/mine/best --prompt="my cat on a chair"

--images is a folder of images with captions, in any of the ways of docs/data.md. --from is the demo in the package, a
run, a checkpoint, or what `checkpoint export` wrote. In --output:

  best                  for --checkpoint: of the checkpoints that keep 95% of what the model could do, what learnt most
  grid.png prompts.txt  the same prompts before and after
  lora.safetensors      the adapters alone, for load(lora=...)
  judged.json           all that was measured

By default all parameters are trained but those of the autoencoder; --method=lora trains adapters, some percent of them.
So that the model does not forget, half of each batch is what it knew: its own data if they are here, or else its own
images of old prompts. Training ends early when nothing gets better. The same command goes on where it stopped.
"""

import sys

from absl import flags, logging

from ernie_vilg_jax import cli
from ernie_vilg_jax.config import default_config
from ernie_vilg_jax.errors import UserError

LORA = default_config().lora
FROM = flags.DEFINE_string("from", None, "Model to start from: demo, a run, a checkpoint or an export.", required=True)
IMAGES = flags.DEFINE_string("images", None, "Folder of images with captions.", required=True)
OUTPUT = flags.DEFINE_string("output", None, "Folder to write.", required=True)
METHOD = flags.DEFINE_string("method", "full", "What is trained: full (all parameters) or lora (adapters).")
STEPS = flags.DEFINE_integer("steps", 480, "Training steps, at most.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 0, "Images of a step; 0: 8 for each expert.")
LEARNING_RATE = flags.DEFINE_float("learning_rate", 0.0, "0: 2e-4 for full, 5e-3 for lora.")
RANK = flags.DEFINE_integer("rank", 6, "Of the adapters.")
TARGETS = flags.DEFINE_list("targets", list(LORA.targets), "Modules of the U-Net that get adapters, as regexes.")
TEXT_TARGETS = flags.DEFINE_list("text_targets", list(LORA.text_targets), "The same of the text encoder.")
EXPERTS = flags.DEFINE_list("experts", [], "With lora: the experts that get adapters, such as 0,1; all if empty.")
TEXT_ENCODER = flags.DEFINE_boolean("text_encoder", True, "With full: also train the text encoder of the experts.")
OLD_SHARE = flags.DEFINE_float("old_share", 0.5, "Share of a batch that is what the model knew; 0 is none.")
OLD_PROMPTS = flags.DEFINE_string(
    "old_prompts", None, "Prompts that it should keep, a file; by default, of its domain."
)
HOLDOUT = flags.DEFINE_float("holdout", 0.1, "Share of your images that is held out to measure on.")
EVERY = flags.DEFINE_integer("every", 0, "Steps between evaluations; 0: 120, or a quarter of all if that is less.")
KNOWLEDGE = flags.DEFINE_boolean("knowledge", None, "Key words and objects weigh more; by default, as in the model.")
SEED = flags.DEFINE_integer("seed", 0, "Of everything that is drawn.")


def main(argv: list[str]) -> None:
    del argv
    from ernie_vilg_jax.paths import check_writable, local

    if not local(IMAGES.value, "images").is_dir():
        raise UserError(f"--images={IMAGES.value}: there is no such folder")
    check_writable(OUTPUT.value, "output", "finetune.json")
    try:
        experts = tuple(int(one) for one in EXPERTS.value)
    except ValueError as error:
        raise UserError(f"--experts={','.join(EXPERTS.value)} must be numbers of experts, such as 0,1") from error

    from ernie_vilg_jax.finetuning.run import finetune
    from ernie_vilg_jax.finetuning.settings import Settings
    from ernie_vilg_jax.training.loop import Stopped

    settings = Settings(
        method=METHOD.value,
        steps=STEPS.value,
        batch_size=BATCH_SIZE.value,
        learning_rate=LEARNING_RATE.value,
        rank=RANK.value,
        targets=tuple(TARGETS.value),
        text_targets=tuple(TEXT_TARGETS.value),
        experts=experts,
        text_encoder=TEXT_ENCODER.value,
        old_share=OLD_SHARE.value,
        holdout=HOLDOUT.value,
        every=EVERY.value,
        knowledge=KNOWLEDGE.value,
        seed=SEED.value,
    )
    cli.enable_compilation_cache()
    try:
        result = finetune(flags.FLAGS["from"].value or "", IMAGES.value, OUTPUT.value, settings, OLD_PROMPTS.value)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(143)
    if result.best:
        logging.info("before and after: %s/grid.png", OUTPUT.value)


def run() -> None:
    """Console entry point."""
    cli.run(main)


if __name__ == "__main__":
    run()
