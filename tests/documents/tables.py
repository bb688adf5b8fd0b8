"""What becomes of each command and each block of Python in the documents: it is run, or there is a reason why not.

A key is a pattern (`*` stands for anything) of the page and the command, or of the page and the first line of a block.
The first one that fits counts, those of `REASONS` before those of `RUN`.
"""

from fnmatch import fnmatchcase

INIT = "tests/training/test_init.py::test_"
PARITY = "tests/interop/test_parity.py::test_"
PAGES = "tests/documents/test_pages.py::test_what_a_page_says_can_be_typed"
FINETUNE = "--from=runs/demo --method=lora --steps=2 --every=2 --batch_size=4 --holdout=0.2 --old_share=0 "
FINETUNE += "--old_prompts=old.txt"

RUN = {
    # In test_pages.py, as typed, but for flags that are added here to make it shorter. What needs no flag is small by
    # the configs/demo.py of its folder, which has the sizes of `smoke`.
    "README.md: PYTHON=python launch/local.sh *": "tests/test_end_to_end.py::finished",
    "README.md: *runs/mine*": PAGES,  # as on docs/finetuning.md
    "README.md: *": "",
    "docs/api.md: *": "",
    "docs/colab.md: jupytext *": "",
    "docs/data.md: *prepare *--tars=*": "--output=data/tars",
    "docs/data.md: *prepare *--parquet=*": "--output=data/parquet",
    "docs/data.md: *": "",
    "docs/demo.md: *evaluate *": "--count=2 --steps=2",
    "docs/evaluation.md: *train *--config.evaluation.every=1000*": (
        "--config.phases.experts.steps=16 --config.evaluation.every=8 --config.evaluation.num_images=1 "
        "--config.evaluation.steps=2"
    ),
    "docs/demo.md: *checkpoint export *": "tests/test_end_to_end.py::test_show_and_export",
    "docs/evaluation.md: *evaluate *": "--count=2 --steps=2",
    "docs/evaluation.md: *": "",
    "docs/evaluation_binding.md: from *": "",
    "docs/experts.md: *--config.phases.experts.steps=1000*": "--config.phases.experts.steps=16",
    "docs/experts.md: *": "",
    "docs/finetuning.md: *ernie_vilg_jax.finetune *": FINETUNE,
    "docs/finetuning.md: *ernie_vilg_jax.sample --lora=*": "--checkpoint=runs/demo",
    "docs/finetuning.md: *": "",
    "docs/human_study.md: *create *": "",
    "docs/knowledge.md: *": "",
    "docs/model_card.md: *": "--count=2 --steps=2",
    "docs/parser.md: from *": "",
    "docs/samplers.md: python -m *": "--checkpoint=runs/demo",
    "docs/samplers.md: *": "",
    "docs/sampling.md: python -m *": "--checkpoint=runs/demo",
    "docs/sampling.md: *": "",
    "docs/weights.md: *--workdir=runs/second *": "",
    # By other tests, with inputs of their own.
    "README.zh.md: *": "tests/documents/test_commands.py::test_both_readmes_say_to_type_the_same",
    "docs/human_study.md: *": "tests/test_human_study.py::test_from_images_to_a_report",
    "docs/scale.md: *": "tests/forecast/test_plan.py::test_the_page_in_the_docs_is_what_the_command_writes",
    "docs/weights.md: *checkpoint import_autoencoder *": f"{INIT}stage_1_takes_autoencoder_and_text_encoder",
    "docs/weights.md: *checkpoint import_text_encoder *": f"{INIT}stage_1_takes_autoencoder_and_text_encoder",
    "docs/weights.md: *checkpoint import_unet *": f"{INIT}a_unet_begins_from_one_of_another_size",
    "docs/weights.md: *checkpoint export_*": f"{INIT}exported_weights_are_those_that_were_imported",
    "docs/weights.md: python -c *AutoencoderKL*": f"{PARITY}diffusers_loads_an_exported_autoencoder",
    "docs/weights.md: python -c *BertModel*": f"{PARITY}transformers_loads_an_exported_text_encoder",
    "*: *train --config=configs/*": "tests/test_documented_commands.py::test_every_documented_command_would_start",
    "CONTRIBUTING.md: mkdocs build *": "tests/documents/test_site.py::test_the_site_is_built_without_a_warning",
    "launch/README.md: launch/*": "tests/launch/test_lines.py::test_lines_of_the_readme_are_accepted",
}

REASONS = {
    "*: python3.11 -m venv .venv": ".ci/run makes this environment",
    "*: *pip install *": "installs packages, as .ci/run does by the README's second line",
    "*: *python -m pytest *": "runs tests, of which this is one",
    "*: *train *...*": "half a line",
    "*: *train *…*": "half a line",
    "*: --config.*": "flags to add to another command",
    "*: *prepare *=gs://*": "needs a bucket; tests/preparation prepares in one on this machine",
    "*: *doctor --workdir=gs://*": "needs a bucket; tests/diagnosis/test_doctor.py runs the doctor in a folder",
    "docs/tpu.md: *aot *": "compiles the paper's model for TPUs, up to an hour; tests/test_aot.py does small ones",
    "benchmarks/README.md: *": "compiles the paper's model for TPUs, minutes to an hour each",
    "README*.md: *ernie_vilg_jax.demo": "a server until stopped; tests/webapp starts one",
    "*: source .venv/bin/activate": "changes the shell of the reader",
    "CONTRIBUTING.md: mkdocs serve": "a server until stopped, of a package that is not ours",
    "CONTRIBUTING.md: pre-commit install": "changes the clone of the reader",
    "CONTRIBUTING.md: SKIP=pyright git commit": "commits to the clone of the reader",
    "docs/ablations.md: *": "trains for hours; tests/benchmarks/test_ablations.py builds every cell",
    "docs/data.md: *--tfds=coco_captions*": "downloads 20 GB; tests/preparation reads small sets of TFDS",
    "docs/data.md: *--beam=*": "needs more data than a test has; tests/preparation runs Beam on small data",
    "docs/demo.md: *prepare *": "downloads 50 MB of art; tests/preparation prepares some of it",
    "docs/demo.md: *benchmarks.blind_*": "needs people; tests/benchmarks answers for them",
    "docs/demo_app.md: *": "a server until stopped; tests/webapp starts one",
    "docs/evaluation.md: *clip=*": "needs CLIP's weights, 1.7 GB; tests/test_evaluate.py scores with a small CLIP",
    "docs/evaluation_binding.md: *.train *": "trains for hours; tests/evaluation trains a small one",
    "docs/finetuning.md: *benchmarks.blind_finetuned *": "needs people; tests/benchmarks answers for them",
    "docs/human_study.md: *serve *": "a server until stopped; tests/evaluation/study starts one",
    "docs/knowledge.md: *--detector=transformers*": "downloads weights; tests/annotation runs a small detector",
    "docs/knowledge.md: *benchmarks/annotate_records.py": "a benchmark of minutes",
    "docs/parser.md: *benchmarks.caption_parser": "a benchmark; tests/annotation/taggers scores the parser",
    "docs/robustness.md: *benchmarks.damage *": "hours; tests/benchmarks/test_damage.py has twenty cases",
    "docs/robustness.md: *benchmarks.chaos *": "hours; tests/benchmarks/test_chaos.py kills one run",
    "docs/tpu.md: *benchmarks.compiler_cost *": "compiles the paper's model for TPUs, minutes to an hour each",
    "docs/training.md: tensorboard *": "a server until stopped, of a package that is not ours",
    "docs/weights.md: python -c *nghuyong/ernie*": "downloads 500 MB from a hub",
    "docs/weights.md: *prepare *": "half a line: the reader's sources are left out",
    "docs/weights.md: import lpips*": "needs torchvision and lpips, which nothing else here does",
    "docs/weights.md: from *make_network": "needs weights; tests/interop/test_inception.py loads small ones",
    "ernie_vilg_jax/assets/fonts/README.md: *": "needs the whole font, 20 MB, and fonttools",
    "launch/README.md: ssh-add *": "needs a key of the reader",
}


def row(name: str) -> str | None:
    """The pattern that a command falls under."""
    return next((pattern for table in (REASONS, RUN) for pattern in table if fnmatchcase(name, pattern)), None)


def is_run_here(name: str) -> bool:
    """Whether test_pages.py runs it."""
    pattern = row(name)
    return pattern in RUN and not RUN[pattern].startswith("tests/")
