"""Shows checkpoints, cuts them down to what sampling needs, joins and cuts banks, brings weights here and back.

  python -m ernie_vilg_jax.checkpoint show runs/demo
  python -m ernie_vilg_jax.checkpoint export runs/demo exported/demo

`export` keeps the moving average of each expert and of the text encoder, in bf16, with the autoencoder, the tokenizer
and the config: a folder that `--checkpoint` and `ernie_vilg_jax.load` take.

`publish` adds the model card to it, as the Hugging Face hub shows it; `hf upload` uploads the folder, and everybody
loads it with --checkpoint=hf://OWNER/NAME:

  python -m ernie_vilg_jax.checkpoint publish runs/demo exported/demo --card=docs/model_card.md --licence=apache-2.0

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

Banks of experts: runs that trained some of the experts each become one, and a base or a bank is cut into other stages
(docs/experts.md). Both write a run, which `sample` takes and in which `train --config=...:experts` goes on:

  python -m ernie_vilg_jax.checkpoint merge  runs/job0 runs/job1 runs/bank   # any number of runs; the last is written
  python -m ernie_vilg_jax.checkpoint branch runs/bank runs/ten --n=10 --stages=log_snr
"""

import json

from absl import flags
from ml_collections import config_flags

from ernie_vilg_jax import cli
from ernie_vilg_jax.errors import UserError

PROMPT = flags.DEFINE_multi_string(
    "prompt", None, "With `export` and `publish`: an example that `sample` shows unasked; repeat it."
)
OVERWRITE = flags.DEFINE_boolean("overwrite", False, "Replace what is in the folder that is written.")
CARD = flags.DEFINE_string("card", None, "With `publish`: the model card that `evaluate --card=FILE` wrote.")
LICENCE = flags.DEFINE_string("licence", None, "With `publish`: the licence of the weights, such as apache-2.0.")
CONFIG_JSON = flags.DEFINE_string(
    "config_json", None, "With `import_*`: the config.json of a .safetensors file that does not lie beside it."
)
MAX_LENGTH = flags.DEFINE_integer("max_length", 77, "With `import_text_encoder`: tokens of a prompt; more are cut off.")
N = flags.DEFINE_integer("n", None, "With `branch`: how many experts there will be.")
STAGES = flags.DEFINE_string(
    "stages",
    None,
    'With `branch`: "uniform", "log_snr" or the first timesteps of all stages but stage 0, such as '
    "250,500,750; where left out, as the checkpoint's config has it.",
)
CONFIG = config_flags.DEFINE_config_file("config", None, "With `import_unet`: the config whose U-Net is to be started.")
USAGE = (
    "say `show CHECKPOINT`, `export CHECKPOINT OUTPUT` or `publish CHECKPOINT OUTPUT`, `merge RUN RUN ... OUTPUT` "
    "or `branch CHECKPOINT OUTPUT --n=N`, or one of import_autoencoder, import_text_encoder, import_unet, "
    "export_autoencoder and export_text_encoder with SOURCE OUTPUT (see --help)"
)


def main(argv: list[str]) -> None:
    from ernie_vilg_jax import checkpointing, pipeline
    from ernie_vilg_jax.interop import bank, convert
    from ernie_vilg_jax.training.optimizer import make_optimizer

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
        case ["publish", path, output]:
            from ernie_vilg_jax.evaluation.publish import publish

            licence = LICENCE.value or ""
            size = publish(path, output, card=CARD.value, licence=licence, prompts=PROMPT.value, **again)
            print(f"{output}: {size / 2**20:.1f} MB and a card; upload it with `hf upload OWNER/NAME {output}`")
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
        case ["merge", *runs, output] if len(runs) > 1:
            print(bank.merge(runs, output, **again))
        case ["branch", source, output]:
            if N.value is None:
                raise UserError("branch needs --n=N, how many experts there will be")
            fresh = lambda config: make_optimizer(config, config.phases.experts).init  # noqa: E731
            print(bank.branch(source, output, n=N.value, stages=STAGES.value, new_optimizer=fresh, **again))
        case _:
            raise UserError(USAGE)


def run() -> None:
    """Console entry point."""
    cli.run(main, positional=True)


if __name__ == "__main__":
    run()
