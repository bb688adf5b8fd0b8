"""The commands that users run on files that may be damaged, and digests of their results."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.damage.checkpoints import custom_metadata, is_key, items, raw_item

STOOD = 8
"""Training steps of each phase of the world's run."""


def digest(value: bytes | str) -> str:
    return hashlib.sha256(value if isinstance(value, bytes) else value.encode()).hexdigest()[:16]


def config_of(phase: str, *variants: str) -> str:
    return f"--config=configs/demo.py:{','.join((phase, 'smoke', *variants))}"


def checkpoint_digests(step: Path) -> dict[str, str]:
    """A digest of each item's arrays, names and dtypes included."""
    import jax

    found = {}
    for item in items(step):
        content = []
        for path, leaf in jax.tree_util.tree_leaves_with_path(raw_item(step, item.name)):
            array = np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)
            content.append(f"{jax.tree_util.keystr(path)} {leaf.dtype} {array.shape} {digest(array.tobytes())}")
        found[item.name] = digest("\n".join(content))
    return found


def losses(metrics: Path, after: int) -> dict[int, float]:
    """Training losses by step; the last line of a step counts."""
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    return {row["step"]: row["train/loss"] for row in rows if "train/loss" in row and row["step"] > after}


@dataclass(frozen=True)
class Train:
    """Resumes a phase for two steps, or starts it with two."""

    phase: str
    resume: bool
    needs: tuple[str, ...]
    variants: tuple[str, ...] = ()
    data: str = "data"

    @property
    def name(self) -> str:
        return f"train {self.phase}, {'resumed' if self.resume else 'started'}"

    @property
    def writes(self) -> tuple[str, ...]:
        return tuple(f"run/{self.phase}/{name}" for name in ("metrics.jsonl", "tensorboard", "previews"))

    @property
    def steps(self) -> int:
        return STOOD + 2 if self.resume else 2

    def line(self, copy: Path, out: Path) -> list[str]:
        section = f"--config.phases.{self.phase}"
        arguments = [config_of(self.phase, *self.variants), f"--config.data.path={copy / self.data}"]
        arguments += [f"--workdir={copy / 'run'}", f"{section}.steps={self.steps}", "--config.train.log_every=1"]
        return ["ernie_vilg_jax.train", *arguments]

    def result(self, copy: Path, out: Path) -> dict[str, Any]:
        folder = copy / "run" / self.phase
        values = losses(folder / "metrics.jsonl", self.steps - 2)
        return {**checkpoint_digests(folder / "checkpoints" / str(self.steps)), "losses": str(values)}


@dataclass(frozen=True)
class Sample:
    """Two steps of two prompts."""

    checkpoint: str
    needs: tuple[str, ...]
    writes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"sample {self.checkpoint}"

    def line(self, copy: Path, out: Path) -> list[str]:
        arguments = [f"--checkpoint={copy / self.checkpoint}", "--steps=2", "--seed=3", f"--output={out / 'images'}"]
        return ["ernie_vilg_jax.sample", *arguments, "--prompt=红色的圆形", "--prompt=a blue square"]

    def result(self, copy: Path, out: Path) -> dict[str, Any]:
        from PIL import Image

        files = sorted((out / "images").glob("0*.png"))
        return {file.name: digest(np.asarray(Image.open(file)).tobytes()) for file in files}


@dataclass(frozen=True)
class Show:
    checkpoint: str
    needs: tuple[str, ...]
    writes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"checkpoint show {self.checkpoint}"

    def line(self, copy: Path, out: Path) -> list[str]:
        return ["ernie_vilg_jax.checkpoint", "show", str(copy / self.checkpoint)]

    def result(self, copy: Path, out: Path) -> dict[str, Any]:
        return {"text": digest((out / "stdout").read_text().replace(str(copy), ""))}


@dataclass(frozen=True)
class Export:
    checkpoint: str
    needs: tuple[str, ...]
    writes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"checkpoint export {self.checkpoint}"

    def line(self, copy: Path, out: Path) -> list[str]:
        return ["ernie_vilg_jax.checkpoint", "export", str(copy / self.checkpoint), str(out / "exported")]

    def result(self, copy: Path, out: Path) -> dict[str, Any]:
        config = json.dumps(custom_metadata(out / "exported")["config"], sort_keys=True)
        return {**checkpoint_digests(out / "exported"), "config": digest(config)}


@dataclass(frozen=True)
class Read:
    """All records through the loader."""

    data: str
    variants: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"read {self.data}"

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.data,)

    def line(self, copy: Path, out: Path) -> list[str]:
        config = [config_of("base", *self.variants), f"--config.data.path={copy / self.data}"]
        return ["benchmarks.damage.read_records", *config]

    def result(self, copy: Path, out: Path) -> dict[str, Any]:
        return dict(line.split() for line in (out / "stdout").read_text().splitlines())


@dataclass(frozen=True)
class Inspect:
    """The HTML page of all training examples."""

    data: str
    writes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"inspect_data {self.data}"

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.data,)

    def line(self, copy: Path, out: Path) -> list[str]:
        config = [config_of("base"), f"--config.data.path={copy / self.data}"]
        return ["ernie_vilg_jax.inspect_data", *config, "--count=1000", f"--output={out / 'look.html'}"]

    def result(self, copy: Path, out: Path) -> dict[str, Any]:
        return {"page": digest((out / "look.html").read_text().replace(str(copy), ""))}


def data_digests(folder: Path) -> dict[str, str]:
    """Digests of the files of prepared data; other files beside them are ignored."""
    manifest = json.loads((folder / "manifest.json").read_text())
    shards = [entry["file"] for split in manifest["splits"].values() for entry in split["shards"]]
    names = [*shards, "tokenizer/tokenizer.json", "tokenizer/sentencepiece.model"]
    files = {name: digest((folder / name).read_bytes()) for name in names}
    return {**files, "manifest.json": digest(json.dumps(manifest, sort_keys=True))}


@dataclass(frozen=True)
class Annotate:
    """Annotates data into a new folder, or again into the same folder."""

    again: bool = False

    @property
    def name(self) -> str:
        return "annotate, again" if self.again else "annotate"

    @property
    def needs(self) -> tuple[str, ...]:
        return ("data", "annotated") if self.again else ("data",)

    @property
    def writes(self) -> tuple[str, ...]:
        return ("annotated",) if self.again else ()

    def folder(self, copy: Path, out: Path) -> Path:
        return (copy if self.again else out) / "annotated"

    def line(self, copy: Path, out: Path) -> list[str]:
        return ["ernie_vilg_jax.annotate", f"--input={copy / 'data'}", f"--output={self.folder(copy, out)}"]

    def result(self, copy: Path, out: Path) -> dict[str, Any]:
        folder = self.folder(copy, out)
        rejected = folder / "rejected.jsonl"
        return {**data_digests(folder), "rejected": rejected.read_text() if rejected.is_file() else ""}


@dataclass(frozen=True)
class Prepare:
    """The command that made the data; it makes damaged shards again."""

    name: str = "prepare, again"
    needs: tuple[str, ...] = ("data",)
    writes: tuple[str, ...] = ("data",)

    def line(self, copy: Path, out: Path) -> list[str]:
        return ["ernie_vilg_jax.prepare", config_of("base"), f"--output={copy / 'data'}"]

    def result(self, copy: Path, out: Path) -> dict[str, Any]:
        return data_digests(copy / "data")
