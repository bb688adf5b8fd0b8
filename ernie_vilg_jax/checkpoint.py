"""Shows a checkpoint, or cuts a training run down to what sampling needs.

  python -m ernie_vilg_jax.checkpoint show runs/demo
  python -m ernie_vilg_jax.checkpoint export runs/demo exported/demo

`export` keeps the moving average of each expert and of the text encoder, in bf16, with the autoencoder, the tokenizer
and the config: a folder that `--checkpoint` and `ernie_vilg_jax.load` take.
"""

import json

from absl import flags

from ernie_vilg_jax import cli
from ernie_vilg_jax.errors import UserError

PROMPT = flags.DEFINE_multi_string("prompt", None, "With `export`: an example that `sample` shows unasked; repeat it.")
OVERWRITE = flags.DEFINE_boolean("overwrite", False, "Replace what is in the folder that `export` writes.")


def main(argv: list[str]) -> None:
    from ernie_vilg_jax import pipeline
    from ernie_vilg_jax.training import checkpoints

    match argv[1:]:
        case ["show", path]:
            found = checkpoints.find(path)
            metadata = checkpoints.read_metadata(found)
            print(f"{found}: {metadata['target']} of config {metadata['config']['name']!r}")
            print(f"items: {', '.join(checkpoints.item_names(found))}")
            print(json.dumps(metadata["config"], indent=1, ensure_ascii=False))
        case ["export", path, output]:
            size = pipeline.export(path, output, prompts=PROMPT.value, overwrite=OVERWRITE.value)
            print(f"{output}: {size / 2**20:.1f} MB")
        case _:
            raise UserError("say `show CHECKPOINT` or `export CHECKPOINT OUTPUT` (see --help)")


def run() -> None:
    """Console entry point."""
    cli.run(main, positional=True)


if __name__ == "__main__":
    run()
