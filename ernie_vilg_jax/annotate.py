"""Adds key words, objects and more captions to prepared records, for training with knowledge.

  python -m ernie_vilg_jax.annotate --input=data/demo --output=data/demo_annotated
  python -m ernie_vilg_jax.annotate --input=data/mine --output=data/mine_annotated --workers=8 \\
      --detector=transformers --detector_options='{"model": "models/detector"}'
  python -m ernie_vilg_jax.annotate --input=data/demo --output=data/demo_annotated \\
      --beam="--runner=DirectRunner --direct_num_workers=2 --direct_running_mode=multi_processing"

The last runs as an Apache Beam pipeline; flags of any runner go through (Dataflow, Flink, Spark), and --input and
--output may then be URLs such as gs://bucket/data. Train with --config.data.path=data/demo_annotated.
Run the same command again after an interruption: finished shards are kept, and the result is the same, byte for byte.
Records that cannot be annotated are set aside in rejected.jsonl and rejected-*.array_record.
"""

from __future__ import annotations

from absl import flags, logging

from ernie_vilg_jax import cli
from ernie_vilg_jax.annotation.taggers import TAGGERS
from ernie_vilg_jax.errors import UserError

_INPUT = flags.DEFINE_string("input", None, "Folder that `prepare` wrote.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write.", required=True)
_TAGGER = flags.DEFINE_string(
    "tagger", "both", f"What finds key words: one of {', '.join(TAGGERS)}; both chooses by script."
)
_DETECTOR = flags.DEFINE_string(
    "detector", "records", "What finds objects: records (keep those that the records have), boxes or transformers."
)
_DETECTOR_OPTIONS = flags.DEFINE_string("detector_options", "{}", "Options of the detector, as JSON.")
_CAPTIONER = flags.DEFINE_string("captioner", "", "What makes more captions, e.g. transformers or file; none if empty.")
_CAPTIONER_OPTIONS = flags.DEFINE_string("captioner_options", "{}", "Options of the captioner, as JSON.")
_TRANSLATOR = flags.DEFINE_string(
    "translator", "", "What translates captions of records that have English ones only; none if empty."
)
_TRANSLATOR_OPTIONS = flags.DEFINE_string("translator_options", "{}", "Options of the translator, as JSON.")
_WORKERS = flags.DEFINE_integer("workers", 1, "Processes on this machine; each loads its own models.")
_BEAM = flags.DEFINE_string("beam", None, "Run as an Apache Beam pipeline with these flags, instead of --workers.")
_ON_ERROR = flags.DEFINE_enum(
    "on_error", "reject", ["reject", "stop"], "Set a record that cannot be annotated aside, or stop at the first."
)


def main(argv: list[str]) -> None:
    del argv
    from ernie_vilg_jax.annotation.annotate import Settings, annotate

    if _BEAM.value is not None and flags.FLAGS["workers"].present:
        raise UserError("--beam and --workers exclude each other: the runner has its own flag for workers")
    settings = Settings(
        tagger=_TAGGER.value,
        detector=_DETECTOR.value,
        detector_options=_DETECTOR_OPTIONS.value,
        captioner=_CAPTIONER.value,
        captioner_options=_CAPTIONER_OPTIONS.value,
        translator=_TRANSLATOR.value,
        translator_options=_TRANSLATOR_OPTIONS.value,
    )
    annotate(
        _INPUT.value,
        _OUTPUT.value,
        settings,
        workers=_WORKERS.value,
        beam=_BEAM.value,
        on_error=_ON_ERROR.value,
    )
    logging.info("Train with --config.data.path=%s", _OUTPUT.value)


def run() -> None:
    """Console entry."""
    cli.run(main)


if __name__ == "__main__":
    run()
