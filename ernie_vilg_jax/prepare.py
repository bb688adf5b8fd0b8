"""Turns sources of pictures and captions into sharded records for training.

  python -m ernie_vilg_jax.prepare --config=configs/demo.py --output=data/demo
  python -m ernie_vilg_jax.prepare --config=configs/demo.py --folder=my_images --output=data/mine

The second takes your own images (docs/data.md says how captions are given) instead of the config's sources.
Large data: --tars=gs://bucket/pairs/*.tar --output=gs://bucket/data --workers=16, or by Apache Beam, in this process
or on a cluster: --beam="--runner=DirectRunner". The bytes are the same each way.
Run the same command again after an interruption: finished shards are kept, and the result is the same, byte for byte.
"""

from __future__ import annotations

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from ernie_vilg_jax import cli
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.paths import is_url, local

_CONFIG = config_flags.DEFINE_config_file("config", None, "What to prepare: configs/NAME.py, optionally :argument.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder or URL (gs://bucket/data) to write.", required=True)
_FOLDER = flags.DEFINE_string("folder", None, "Take this folder of captioned images instead of config.data.sources.")
_TARS = flags.DEFINE_multi_string("tars", None, "Take these webdataset tars (a path, URL or quoted pattern) instead.")
_PARQUET = flags.DEFINE_string("parquet", None, "Take these parquet files (a path, URL or quoted pattern) instead.")
_TFDS = flags.DEFINE_string("tfds", None, "Take this TFDS name, or the folder of a prepared TFDS dataset, instead.")
_ON_MISMATCH = flags.DEFINE_enum(
    "on_mismatch", "error", ["error", "skip"], "With own images: what to do about unpaired or unreadable files."
)
_WORKERS = flags.DEFINE_integer("workers", 1, "Processes on this machine.")
_BEAM = flags.DEFINE_string("beam", None, "Run as an Apache Beam pipeline with these flags, instead of --workers.")
flags.mark_flag_as_required("config")
FLAGS = {"folder": _FOLDER, "tars": _TARS, "parquet": _PARQUET, "tfds": _TFDS}
"""Each names a source of the user's own data, instead of the config's."""


def main(argv: list[str]) -> None:
    del argv
    from ernie_vilg_jax.preparation.prepare import prepare

    if _BEAM.value is not None and flags.FLAGS["workers"].present:
        raise UserError("--beam and --workers exclude each other: the runner has its own flag for workers")
    config = _CONFIG.value
    own = own_sources()
    if own:
        with config.unlocked():
            config.data.sources = own
    prepare(config, _OUTPUT.value, own_data=bool(own), workers=_WORKERS.value, beam=_BEAM.value)
    logging.info("Look at %s/preview.png, then train with --config.data.path=%s", _OUTPUT.value, _OUTPUT.value)


def own_sources() -> tuple[ConfigDict, ...]:
    """The source that one of FLAGS names, or ()."""
    given = [name for name, flag in FLAGS.items() if flag.value]
    if len(given) > 1:
        raise UserError(
            f"--{given[0]} and --{given[1]} exclude each other: prepare one after the other, or name both "
            "in the config's data.sources"
        )
    options = {"on_mismatch": _ON_MISMATCH.value}
    if _FOLDER.value:
        return (ConfigDict({"name": "folder", "path": str(local(_FOLDER.value, "folder")), **options}),)
    if _TARS.value:
        if len(_TARS.value) > 1:  # a shell expands --tars={0..3}.tar to four flags
            raise UserError(
                f"--tars was given {len(_TARS.value)} times: put the pattern in quotes, --tars='s-{{0..3}}.tar'"
            )
        return (ConfigDict({"name": "tars", "path": _place(_TARS.value[0]), **options}),)
    if _PARQUET.value:
        return (ConfigDict({"name": "parquet", "path": _place(_PARQUET.value), **options}),)
    if _TFDS.value:
        return (ConfigDict({"name": "tfds", "dataset": str(local(_TFDS.value, "tfds"))}),)
    return ()


def _place(path: str) -> str:
    return path if is_url(path) else str(local(path, ""))


def run() -> None:
    """Console entry."""
    cli.run(main)


if __name__ == "__main__":
    run()
