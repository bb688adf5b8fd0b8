"""Joins and splits banks of experts: `checkpoint merge` and `checkpoint branch`.

    merge    runs that each trained some of the experts  ->  one run with all of them
    branch   a base, or a bank of n experts              ->  a run of M experts, at step 0

Both write a run: OUTPUT/experts/checkpoints/STEP. You can sample from it like any other, and `train` resumes it. At
most one expert is in memory at a time, because a checkpoint item is a folder that can be copied.
"""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging
from etils import epath
from ml_collections import ConfigDict

from ernie_vilg_jax import checkpointing, compatibility, paths
from ernie_vilg_jax.aliases import Params, Tree
from ernie_vilg_jax.checkpointing import expert_name
from ernie_vilg_jax.config import default_config, differing, fields
from ernie_vilg_jax.diffusion.stages import Stages
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.interop import components
from ernie_vilg_jax.model import Model, build_model

NewOptimizer = Callable[[ConfigDict], Callable[[Params], Tree]]
"""A config -> parameters -> the state of a fresh optimizer. Passed in, because training is on a higher floor."""
# Settings that decide how an expert is trained. The batch size does not: runs divide it among their experts.
DECIDES = (
    *compatibility.SAME["experts"],
    *compatibility.TRAINING,
    "phases.experts",
)
FREE = ("phases.experts.steps", "phases.experts.batch_size", "phases.experts.accumulation_steps")
SHARED = {"autoencoder": "autoencoder", "text_encoder": "text encoder"}


class Run(NamedTuple):
    """One run of the phase `experts`, to be merged."""

    path: epath.Path
    step: int
    config: ConfigDict
    metadata: dict[str, Any]
    experts: tuple[int, ...]
    """Stages of its experts."""


def check_trained(path: epath.Path, config: ConfigDict) -> None:
    """Raises UserError if the phase `experts` would resume with other experts than the checkpoint holds.

    A subset is allowed at step 0, which `branch` writes: no training is lost there.
    """
    if config.phase != "experts":
        return
    held = _experts(path)
    wanted = tuple(sorted(set(config.experts.train))) or tuple(range(config.experts.n))
    if wanted != held and not (path.name == "0" and set(wanted) <= set(held)):
        raise UserError(
            f"checkpoint {path} trains {_names(held)}, but --config.experts.train={tuple(config.experts.train)} asks "
            f"for {_names(wanted)}: train those in another --workdir, with the same base, then join the runs with "
            "`python -m ernie_vilg_jax.checkpoint merge`"
        )


def merge(runs: Sequence[epath.PathLike], output: epath.PathLike, *, overwrite: bool = False) -> str:
    """Joins runs of the phase `experts` that together hold each expert exactly once. Returns the text for the user.

    Every item is copied bit for bit: averages, parameters and optimizer of each expert. The autoencoder, the text
    encoder, the tokenizer, the config and the step are those of the run with the fewest steps. Training resumes after
    the last example that any of the runs has seen.

    Raises UserError if the runs do not fit together, or if one of them is damaged.
    """
    opened = [_open(run) for run in runs]
    for first, second in itertools.pairwise(opened):
        _check_same_config(first, second)
    owners = _owners(opened)
    least = min(opened, key=lambda run: run.step)
    if least.step != max(run.step for run in opened):
        told = ", ".join(f"{_names(run.experts)} at step {run.step}" for run in opened)
        logging.warning("the runs are at different steps (%s); the merged run resumes from step %d", told, least.step)
    least.config.experts.train = ()
    metadata = checkpointing.make_metadata(
        least.config,
        phase="experts",
        step=least.step,
        data=least.metadata["data"],
        examples=max(_seen(run) for run in opened),
        merged=[{"experts": list(run.experts), "step": run.step, "examples": _seen(run)} for run in opened],
    )
    parts = {name: (least.path, name) for name in ("train", *SHARED, "tokenizer")}
    with paths.replacing(_free(output, [run.path for run in opened], overwrite)) as folder:
        for first, second in itertools.pairwise(opened):
            _check_same_shared(first, second)
        for stage, run in owners.items():
            checkpointing.read_whole(run.path, expert_name(stage))  # finds damage now, not when training resumes
            parts[expert_name(stage)] = (run.path, expert_name(stage))
        checkpointing.join(folder / "checkpoints" / str(least.step), parts, metadata)
    return f"{output}: {_names(tuple(owners))} at step {least.step}; `train` resumes it with --workdir={output}"


def branch(
    source: epath.PathLike,
    output: epath.PathLike,
    *,
    n: int,
    stages: str | None = None,
    new_optimizer: NewOptimizer,
    overwrite: bool = False,
) -> str:
    """A run of n experts at step 0, from a base or from a bank with other stages. Returns the text for the user.

    Each expert starts from the average (EMA) of the expert that had most of its timesteps; of two equal ones, the less
    noisy. Its optimizer starts fresh.

    Args:
      source: a run or checkpoint of the phase `base` or `experts`, or what `checkpoint export` wrote of one.
      stages: as config.experts.stages; None leaves it as `source` has it.
    """
    path = checkpointing.find(source)
    before = checkpointing.read_metadata(path)
    config = checkpointing.read_config(path, default_config())
    if before["phase"] not in ("base", "experts"):
        raise UserError(f"checkpoint {path} is from the phase {before['phase']}; branch needs one from base or experts")
    model = build_model(config)
    old = Stages((), model.schedule.num_timesteps) if before["phase"] == "base" else model.stages
    config.phase, config.experts.n, config.experts.train = "experts", n, ()
    config.experts.stages = stages or config.experts.stages
    try:
        new = build_model(config).stages
    except UserError as error:
        raise UserError(f"--n={n} --stages={config.experts.stages}: {error}") from error
    origins = [most_in_charge(old, *new.range_of(stage)) for stage in range(n)]
    if missing := sorted(set(origins) - set(_experts(path))):
        raise UserError(
            f"checkpoint {path} has no {_names(missing)}, from which new experts would start: first join the "
            "runs that trained its experts with `checkpoint merge`"
        )
    metadata = checkpointing.make_metadata(config, phase="experts", step=0, data=before.get("data"), examples=0)
    with paths.replacing(_free(output, [path], overwrite)) as folder:
        pieces = folder / "pieces"
        for name, tree in _fresh_items(path, model, set(origins), new_optimizer(config)):
            checkpointing.save_once(pieces / name, {name: tree}, metadata)
        parts = {name: (path, name) for name in ("autoencoder", "tokenizer")}
        parts |= {name: (pieces / name, name) for name in ("train", "text_encoder")}
        parts |= {expert_name(stage): (pieces / expert_name(k), expert_name(k)) for stage, k in enumerate(origins)}
        checkpointing.join(folder / "checkpoints" / "0", parts, metadata)
        pieces.rmtree()
    return "\n".join([*_table(old, new, origins), _told(output, config)])


def _open(given: epath.PathLike) -> Run:
    path = checkpointing.find(given)
    metadata, items = checkpointing.read_metadata(path), checkpointing.item_names(path)
    if metadata["phase"] != "experts":
        raise UserError(f"checkpoint {path} is from the phase {metadata['phase']}; merge joins runs of experts")
    if "train" not in items:
        raise UserError(
            f"checkpoint {path} holds only averages, as `checkpoint export` writes them: merge the runs themselves, "
            "then export the result"
        )
    config = checkpointing.read_config(path, default_config())
    if config.experts.train_text_encoder:
        raise UserError(
            f"checkpoint {path} trained its text encoder (config.experts.train_text_encoder), so its experts work with "
            "no other: train all experts in one run, or keep the text encoder of the base frozen"
        )
    step = int(checkpointing.read_items(path, {"train": {"step": np.zeros((), np.int32)}})["train"]["step"])
    return Run(path, step, config, metadata, _experts(path))


def _experts(path: epath.Path) -> tuple[int, ...]:
    found = (re.fullmatch(r"expert_(\d+)", name) for name in checkpointing.item_names(path))
    return tuple(sorted(int(match[1]) for match in found if match))


def _names(stages: Sequence[int]) -> str:
    return ", ".join(expert_name(stage) for stage in stages) or "no expert"


def _seen(run: Run) -> int:
    return checkpointing.examples_seen(run.metadata, run.step, run.config.phases.experts.batch_size)


def _check_same_config(first: Run, second: Run) -> None:
    fields_of_both = differing(_deciding(first.config), _deciding(second.config))
    different = [f"{name} ({one!r} and {other!r})" for name, (one, other) in fields_of_both.items()]
    if first.metadata["data"] != second.metadata["data"]:
        different.append("data (other records)")
    if different:
        raise UserError(
            f"checkpoints {first.path} and {second.path} were trained with different settings: {'; '.join(different)}; "
            "all experts of a bank need the same settings: train one of the runs again"
        )


def _deciding(config: ConfigDict) -> dict[str, Any]:
    return {
        name: value for name, value in fields(config, DECIDES).items() if not name.endswith((*compatibility.HOW, *FREE))
    }


def _owners(runs: Sequence[Run]) -> dict[int, Run]:
    """Stage -> the run that holds its expert."""
    owners: dict[int, Run] = {}
    for run in runs:
        for stage in run.experts:
            if stage in owners:
                raise UserError(
                    f"{expert_name(stage)} is in {owners[stage].path} and in {run.path}: leave out one of the two runs"
                )
            owners[stage] = run
    if missing := sorted(set(range(runs[0].config.experts.n)) - set(owners)):
        raise UserError(
            f"no run holds {_names(missing)}: add a run that does, or train one in its own --workdir "
            f"with '--config.experts.train={tuple(missing)}'"
        )
    return dict(sorted(owners.items()))


def _check_same_shared(first: Run, second: Run) -> None:
    """Raises UserError unless everything that the experts share is the same, bit for bit."""
    words = [checkpointing.read_tokenizer(run.path) for run in (first, second)]
    different = [] if checkpointing.same_tokenizer(*words) else ["tokenizer"]
    for item, name in SHARED.items():
        one, other = (checkpointing.read_whole(run.path, item) for run in (first, second))
        if item == "text_encoder":  # at step 0 of a branch it has an optimizer, too
            one, other = one["ema"], other["ema"]
        same = jax.tree.structure(one) == jax.tree.structure(other)
        if not same or not all(jax.tree.leaves(jax.tree.map(np.array_equal, one, other))):
            different.append(name)
    if different:
        raise UserError(
            f"checkpoints {first.path} and {second.path} differ in the {' and the '.join(different)}: their "
            "experts started from different bases; train one of the runs again, from the other's base"
        )


def most_in_charge(stages: Stages, low: int, high: int) -> int:
    """The stage that has most of the timesteps [low, high); the first if several are equal."""
    return int(np.bincount(stages.stage_of(np.arange(low, high))).argmax())


def _fresh_items(
    path: epath.Path, model: Model, origins: set[int], optimizer: Callable[[Params], Tree]
) -> Iterator[tuple[str, Tree]]:
    """Items that training can start from, made of a checkpoint's averages; one at a time, as numpy fp32."""
    abstract = {"text_encoder": model.abstract_text_encoder()}
    abstract |= dict.fromkeys(map(expert_name, sorted(origins)), model.abstract_unet())
    for name, shapes in abstract.items():
        blank = jax.tree.map(lambda leaf: np.broadcast_to(np.zeros((), np.float32), leaf.shape), shapes)
        average = checkpointing.read_items(path, {name: {"ema": blank}})[name]["ema"]
        # The text encoder as well: `config.experts.train_text_encoder` may be set when training starts.
        yield name, {"ema": average, "params": average, "opt": jax.tree.map(np.asarray, optimizer(average))}
    seed = jax.random.key(0)
    if "train" in checkpointing.item_names(path):  # so that a branch of a base trains like its experts
        seed = checkpointing.read_items(path, {"train": {"key": seed}})["train"]["key"]
    yield "train", {"step": np.zeros((), np.int32), "key": seed}


def _free(output: epath.PathLike, sources: Sequence[epath.Path], overwrite: bool) -> epath.Path:
    """The folder of the phase `experts` in the working directory `output`, to be written from `sources`.

    Everything else in `output`, such as the base, stays.
    """
    workdir = paths.reach(output, "output")
    if (workdir / "_CHECKPOINT_METADATA").exists():
        raise UserError(f"{output} is a checkpoint, but a run is to be written there: name another folder")
    folder = checkpointing.phase_folder(workdir, "experts")
    for source in sources:
        components.free(folder, source, overwrite)
    return folder


def _table(old: Stages, new: Stages, origins: Sequence[int]) -> list[str]:
    lines = []
    for stage, origin in enumerate(origins):
        low, high = new.range_of(stage)
        share = float(np.mean(old.stage_of(np.arange(low, high)) == origin))
        lines.append(
            f"{expert_name(stage)}  timesteps {low:>4} to {high - 1:>4}  starts from {expert_name(origin)}, "
            f"which had {share:.0%} of them"
        )
    return lines


def _told(output: epath.PathLike, config: ConfigDict) -> str:
    cuts = {f"experts.{name}": config.experts[name] for name in ("n", "stages")}
    return f"{output}: step 0; `train` starts from it with\n  --workdir={output} {components.flags_of(cuts)}"
