"""Encodes all images of a prepared directory to latents, with a trained autoencoder.

    training shard -> shard of the same name: latents in place of images, records grouped by size; note in .progress/
    holdout shard  -> copied: validation shows images
    all notes      -> tokenizer/ LICENCES.md preview.png, manifest.json (last)

Processes share the shards, and each encodes its own on its own devices. A shard whose note has the fingerprint of this
run (of input, autoencoder and settings) is kept, so that a killed run resumes and ends with the same bytes.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from etils import epath
from ml_collections import ConfigDict

from ernie_vilg_jax import checkpointing
from ernie_vilg_jax.data.files import digest, file_sha256, sealed_json
from ernie_vilg_jax.data.latents import DTYPES
from ernie_vilg_jax.data.loader import threads_of
from ernie_vilg_jax.data.manifests import MANIFEST, parse_manifest
from ernie_vilg_jax.data.pixels import Viewer
from ernie_vilg_jax.data.sizes import smallest_side
from ernie_vilg_jax.encoding.shard import Settings, ShardEncoder
from ernie_vilg_jax.errors import UserError, file_errors
from ernie_vilg_jax.model import Model, build_model
from ernie_vilg_jax.paths import inside
from ernie_vilg_jax.preparation.folders import SCRATCH, Folder, intact, open_folder
from ernie_vilg_jax.preparation.progress import PROGRESS, split_summaries, whole_note
from ernie_vilg_jax.progress import Progress
from ernie_vilg_jax.sharding import processes, rules
from ernie_vilg_jax.sharding.mesh import make_mesh
from ernie_vilg_jax.training.encoded import autoencoder_digest, find_autoencoder

_DAY = 24 * 60 * 60
_FIX = "give a folder that `python -m ernie_vilg_jax.prepare` or `annotate` finished"


@dataclasses.dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
      fingerprint: of all that decides the output.
      autoencoder: digest of its parameters.
      shards: file name -> its entry in the input's manifest.
    """

    source: str
    output: str
    settings: Settings
    autoencoder: str
    manifest: Mapping[str, Any]
    fingerprint: str
    shards: Mapping[str, Mapping[str, Any]]


@file_errors()
def encode(
    config: ConfigDict,
    source: str,
    output: str,
    checkpoint: epath.PathLike,
    *,
    crops: int = 1,
    dtype: str = "bfloat16",
    devices: Sequence[Any] | None = None,
) -> dict[str, Any]:
    """Writes (or finishes, or finds complete) a directory of latents, and returns its manifest.

    All processes of a job call it, with folders that they share.

    Args:
      config: the model, and `data.sizes`, `data.crop`, `data.smallest_side`, `data.threads`, `seed`.
      source: prepared or annotated directory.
      output: directory to write.
      checkpoint: a run or checkpoint that has the autoencoder.
      crops: of each image, if `data.crop` is "random"; training draws one of them.
      dtype: of the posteriors' moments: "bfloat16" or "float32".
      devices: of this process; all by default.
    """
    job, path, part = _plan(config, source, output, checkpoint, crops, dtype)
    processes.agree({"fingerprint of input, autoencoder and settings": job.fingerprint})
    target = open_folder(output)
    if processes.index() == 0:
        target.create()
        _clear(target, job)
    processes.wait_for_all("encode/start", _DAY)  # process 0 compares checksums
    if (before := _manifest(target, job)) is not None:
        logging.info("%s is complete already; nothing to do", output)
        return before
    notes = _notes(target, job)
    missing = [name for name in job.shards if name not in notes]
    if missing:
        _encode(config, job, missing[processes.index() :: processes.count()], target, path, part, devices)
    processes.wait_for_all("encode/end", 7 * _DAY)
    found = _finish(target, job) if processes.index() == 0 else {}
    processes.wait_for_all("encode/finished", _DAY)
    return found


def _plan(
    config: ConfigDict, source: str, output: str, checkpoint: epath.PathLike, crops: int, dtype: str
) -> tuple[Job, epath.Path, str]:
    """The job, and the checkpoint of its autoencoder with the part that encodes. Raises UserError for mistakes."""
    viewer = Viewer.of(config, train=True)
    if crops < 1:
        raise UserError(f"--crops={crops} must be at least 1")
    if crops > 1 and not viewer.random:
        raise UserError(f"--crops={crops} central crops are all the same: add --config.data.crop=random")
    if dtype not in DTYPES:
        raise UserError(f"--dtype={dtype} must be one of {', '.join(DTYPES)}")
    if inside(output, source):
        raise UserError(f"--output={output} is --input or lies inside it: give another folder")
    folder = open_folder(source)
    if folder.size(MANIFEST) is None:
        raise UserError(f"--input={source} holds no {MANIFEST}: {_FIX}")
    manifest = parse_manifest(folder.read(MANIFEST), f"the {MANIFEST} of --input={source}", _FIX)
    if "encoding" in manifest:
        raise UserError(f"--input={source} holds latents already: {_FIX}")
    path, part = find_autoencoder(checkpoint, config, "checkpoint")
    settings = Settings(viewer, crops, smallest_side(config), dtype, int(config.seed))
    autoencoder = autoencoder_digest(path)
    shards = {shard["file"]: shard for split in manifest["splits"].values() for shard in split["shards"]}
    content = [manifest["fingerprint"], [[name, entry["sha256"]] for name, entry in shards.items()]]
    fingerprint = digest({"input": content, "autoencoder": autoencoder, "settings": settings.plain()})
    return Job(source, output, settings, autoencoder, manifest, fingerprint, shards), path, part


def _clear(target: Folder, job: Job) -> None:
    """Makes the output an unfinished run of this job, with the notes of the shards that it keeps."""
    before = _manifest(target, job)
    if before is not None and "encoding" not in before:
        raise UserError(f"--output={job.output} holds records that are not encoded ones: choose another folder")
    if before is None and not target.names(f"{PROGRESS}/*") and target.names("*.array_record"):
        raise UserError(f"--output={job.output} holds records that are not encoded ones: choose another folder")
    notes = _notes(target, job)
    if before is not None and before["fingerprint"] == job.fingerprint:
        entries = [entry for split in before["splits"].values() for entry in split["shards"]]
        notes |= {entry["file"]: {"fingerprint": job.fingerprint, "entry": entry} for entry in entries}
    notes = {name: note for name, note in notes.items() if name in job.shards and intact(target, note["entry"])}
    if before is not None and before["fingerprint"] == job.fingerprint and len(notes) == len(job.shards):
        return
    if not notes and (before is not None or target.names("*.array_record")):
        logging.warning(
            "%s is of other input, settings or another autoencoder: all its shards are made again", job.output
        )
    for name, note in notes.items():
        target.write(_note_name(name), sealed_json(note))
    target.delete(MANIFEST)
    kept = {*notes, *map(_note_name, notes)}
    for name in [*target.names("*.array_record"), *target.names(".*.partial"), *target.names(f"{PROGRESS}/*")]:
        if name not in kept:
            target.delete(name)
    target.delete_folder(SCRATCH)


def _manifest(target: Folder, job: Job) -> dict[str, Any] | None:
    """The manifest in the output, if there is one."""
    if target.size(MANIFEST) is None:
        return None
    where = f"the {MANIFEST} of --output={job.output}"
    return parse_manifest(target.read(MANIFEST), where, "choose another folder, or delete that one first")


def _note_name(shard: str) -> str:
    return f"{PROGRESS}/{shard}.json"


def _notes(target: Folder, job: Job) -> dict[str, dict[str, Any]]:
    """The notes of this job's finished shards."""
    found = [whole_note(target.read(file)) for file in target.names(f"{PROGRESS}/*.array_record.json")]
    return {note["entry"]["file"]: note for note in found if note and note["fingerprint"] == job.fingerprint}


def _encode(
    config: ConfigDict,
    job: Job,
    names: Sequence[str],
    target: Folder,
    path: epath.Path,
    part: str,
    devices: Sequence[Any] | None,
) -> None:
    """Encodes this process's shards on its own devices; no process waits for another."""
    model = build_model(config)
    mesh = make_mesh({"data": -1}, jax.local_devices() if devices is None else devices)
    progress = Progress(sum(job.shards[name]["records"] for name in names), "records")
    logging.info(
        "encoding %d shards on %d x %s: images of %s",
        *(len(names), mesh.size, mesh.devices.flat[0].device_kind, ", ".join(map(str, job.settings.viewer.sizes))),
    )
    # All processes read, because the checksums are compared together.
    autoencoder = jax.device_put(_read(path, part, model), rules.replicated(mesh))
    training = {shard["file"] for shard in job.manifest["splits"]["train"]["shards"]}
    with jax.set_mesh(mesh):
        encoder = ShardEncoder(job.settings, model, mesh, autoencoder, threads_of(config))
        for name in names:
            expected = job.shards[name]
            with target.scratch() as scratch, open_folder(job.source).local(name) as file:
                _check(file, expected, job.source)
                if name in training:
                    entry = encoder.write(name, file, scratch / name, progress)
                else:
                    shutil.copyfile(file, scratch / name)
                    entry = dict(expected)
                    progress.made(expected["records"])
                target.put(scratch / name, name)
            target.write(_note_name(name), sealed_json({"fingerprint": job.fingerprint, "entry": entry}))
    logging.info("%s", progress.summary())


def _check(file: Path, expected: Mapping[str, Any], source: str) -> None:
    right = file.exists() and file.stat().st_size == expected["bytes"] and file_sha256(file) == expected["sha256"]
    if not right:
        raise UserError(
            f"shard {expected['file']} of --input={source} is missing or damaged (not the bytes that its manifest "
            f"states): make it again with the command that made {source}"
        )


def _read(path: epath.Path, part: str, model: Model) -> dict[str, Any]:
    """{"params", "mean" [c], "std" [c]} as NumPy arrays; posteriors do not depend on the last two."""
    frozen = model.abstract_autoencoder()
    blank = jax.tree.map(lambda leaf: np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape), frozen["params"])
    params = checkpointing.read_items(path, {"autoencoder": {part: blank}})["autoencoder"][part]
    return {"params": params, **{name: np.zeros(frozen[name].shape, np.float32) for name in ("mean", "std")}}


def _finish(target: Folder, job: Job) -> dict[str, Any]:
    """Writes the files of the whole directory; the manifest last."""
    notes = _notes(target, job)
    if missing := [name for name in job.shards if name not in notes]:
        raise UserError(
            f"--output={job.output} lacks {missing[0]}, which another process was to write: all processes must share "
            "that folder"
        )
    entries = {name: notes[name]["entry"] for name in job.shards}
    source = open_folder(job.source)
    for name in [*source.names("tokenizer/*"), *source.names("LICENCES.md"), *source.names("preview.png")]:
        target.write(name, source.read(name))
    left_out = sum(entry.get("left_out", 0) for entry in entries.values())
    splits = split_summaries(entries, job.manifest["splits"])
    result = {
        **job.manifest,
        "fingerprint": job.fingerprint,
        "splits": splits,
        "encoding": {
            "input": job.manifest["fingerprint"],
            "autoencoder": job.autoencoder,
            "settings": job.settings.plain(),
            "left_out": left_out,
        },
    }
    target.write(MANIFEST, sealed_json(result))
    target.delete_folder(PROGRESS)
    size = sum(entry["bytes"] for entry in splits["train"]["shards"])
    logging.info(
        "latents of %d images, %.1f MB; %d images have a side below %d pixels and are left out",
        *(splits["train"]["records"], size / 1e6, left_out, job.settings.smallest_side),
    )
    return result
