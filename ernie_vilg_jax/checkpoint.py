"""Shows a checkpoint, cuts a run down to what sampling needs, and brings weights from elsewhere and back.

  python -m ernie_vilg_jax.checkpoint show runs/demo
  python -m ernie_vilg_jax.checkpoint export runs/demo exported/demo

`export` keeps the moving average of each expert and of the text encoder, in bf16, with the autoencoder, the tokenizer
and the config: a folder that `--checkpoint` and `ernie_vilg_jax.load` take.

Components of a model for training to begin from, out of folders that save_pretrained of diffusers or transformers
wrote:

  python -m ernie_vilg_jax.checkpoint import_autoencoder  sd-v1-5/vae weights/vae
  python -m ernie_vilg_jax.checkpoint import_text_encoder bert-base-chinese weights/bert
  python -m ernie_vilg_jax.checkpoint import_unet         sd-v1-5/unet weights/unet --config=configs/ablation.py

Each prints the flags that `train` needs with it, among them --config.phases.base.autoencoder_from=weights/vae. The
first two bring the whole network, or say what cannot be represented; `import_unet` (from a UNet2DConditionModel, or a
run of other sizes) takes the tensors that fit the U-Net of --config and lists each of them. The way back:

  python -m ernie_vilg_jax.checkpoint export_autoencoder  runs/mine vae       # AutoencoderKL of diffusers
  python -m ernie_vilg_jax.checkpoint export_text_encoder runs/mine bert      # BertModel of transformers

Weights are read from .safetensors files, no torch needed. docs/weights.md has the whole path from such a folder to a
training run.
"""

import json

from absl import flags
from ml_collections import config_flags

from ernie_vilg_jax import cli
from ernie_vilg_jax.errors import UserError

PROMPT = flags.DEFINE_multi_string("prompt", None, "With `export`: an example that `sample` shows unasked; repeat it.")
OVERWRITE = flags.DEFINE_boolean("overwrite", False, "Replace what is in the folder that is written.")
CONFIG_JSON = flags.DEFINE_string(
    "config_json", None, "With `import_*`: the config.json of a .safetensors file that does not lie beside it."
)
MAX_LENGTH = flags.DEFINE_integer("max_length", 77, "With `import_text_encoder`: tokens of a prompt; more are cut off.")
CONFIG = config_flags.DEFINE_config_file("config", None, "With `import_unet`: the config whose U-Net is to be started.")
USAGE = (
    "say `show CHECKPOINT` or `export CHECKPOINT OUTPUT`, or one of import_autoencoder, import_text_encoder, "
    "import_unet, export_autoencoder and export_text_encoder with SOURCE OUTPUT (see --help)"
)


def main(argv: list[str]) -> None:
    from ernie_vilg_jax import checkpointing, pipeline
    from ernie_vilg_jax.interop import convert

    again = {"overwrite": OVERWRITE.value}
    match argv[1:]:
        case ["show", path]:
            found = checkpointing.find(path)
            items = checkpointing.item_names(found)
            metadata = checkpointing.read_metadata(found, *(items if len(items) == 1 else ()))
            print(f"{found}: {metadata['phase']} of config {metadata['config']['name']!r}")
            print(f"items: {', '.join(items)}")
            print(json.dumps(metadata["config"], indent=1, ensure_ascii=False))
        case ["export", path, output]:
            size = pipeline.export(path, output, prompts=PROMPT.value, **again)
            print(f"{output}: {size / 2**20:.1f} MB")
        case ["import_autoencoder", source, output]:
            print(convert.import_autoencoder(source, output, config_json=CONFIG_JSON.value, **again))
        case ["import_text_encoder", source, output]:
            print(convert.import_text_encoder(source, output, max_length=MAX_LENGTH.value, **again))
        case ["import_unet", source, output]:
            if CONFIG.value is None:
                raise UserError("import_unet needs --config=FILE, the config whose U-Net is to be started")
            print(convert.import_unet(source, output, CONFIG.value, config_json=CONFIG_JSON.value, **again))
        case ["export_autoencoder", path, output]:
            print(convert.export_autoencoder(path, output, **again))
        case ["export_text_encoder", path, output]:
            print(convert.export_text_encoder(path, output, **again))
        case _:
            raise UserError(USAGE)


def run() -> None:
    """Console entry point."""
    cli.run(main, positional=True)


if __name__ == "__main__":
    run()
