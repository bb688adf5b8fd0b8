"""Damage to checkpoints with intact files: parts of other experts, steps and runs; names that look like steps."""

import shutil
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from benchmarks.damage.files import files_of, name, swap
from benchmarks.damage.kinds import Damage, Place


def items(step: Path) -> list[Path]:
    """The items of a checkpoint, in order."""
    return sorted(folder for folder in step.iterdir() if folder.is_dir())


def replace(target: Path, source: Path) -> None:
    shutil.rmtree(target)
    shutil.copytree(source, target)


def experts_exchanged(place: Place, rng: Random) -> str:
    experts = [item for item in items(place.part) if item.name.startswith("expert_")]
    first, second = rng.sample(experts, 2)
    if rng.random() < 0.5:
        swap(first, second)
        return f"{name(place, first)} and {second.name} exchanged"
    replace(first, second)
    return f"{name(place, first)} is a copy of {second.name}"


def item_of_another_step(place: Place, rng: Random) -> str:
    earlier = [step for step in place.part.parent.iterdir() if step != place.part and step.name.isdigit()]
    step, item = rng.choice(sorted(earlier)), rng.choice(items(place.part))
    replace(item, step / item.name)
    return f"{name(place, item)} is that of step {step.name}"


def item_of_another_run(place: Place, rng: Random) -> str:
    item = rng.choice(items(place.part))
    replace(item, place.twin / item.name)
    return f"{name(place, item)} is that of another run"


def arrays_of_another_run(place: Place, rng: Random) -> str:
    """Replaces only the bytes of the arrays: names, shapes and dtypes fit."""
    item = rng.choice(items(place.part))
    for folder in ("d", "ocdbt.process_0", "manifest.ocdbt"):
        source, target = place.twin / item.name / folder, item / folder
        shutil.rmtree(target) if target.is_dir() else target.unlink()
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    return f"the arrays of {name(place, item)} are those of another run"


def metadata_of_another(place: Place, rng: Random) -> str:
    earlier = sorted(step for step in place.part.parent.iterdir() if step != place.part and step.name.isdigit())
    source = rng.choice([place.twin, *earlier]) / "_CHECKPOINT_METADATA"
    shutil.copy(source, place.part / "_CHECKPOINT_METADATA")
    whose = "another run" if source.is_relative_to(place.twin) else f"step {source.parent.name}"
    return f"{name(place, place.part)} has the metadata of {whose}"


def item_renamed(place: Place, rng: Random) -> str:
    item = rng.choice(items(place.part))
    after = item.with_name(rng.choice((f"{item.name}_", "expert_07", "default", item.name.upper())))
    item.rename(after)
    return f"{name(place, item)} is now called {after.name}"


def step_renamed(place: Place, rng: Random) -> str:
    after = place.part.with_name(rng.choice(("9", "12", "100", "08", "8.bak", "step_8", "-8", "7")))
    place.part.rename(after)
    return f"{name(place, place.part)} is now called {after.name}"


def names_of_steps(place: Place, rng: Random) -> str:
    """A file or folder whose name looks like a step, beside the steps."""
    digits = (
        "9",
        "12",
        "08",
        "0",
        "-9",
        "8 (copy)",
        "9.orbax-checkpoint-tmp-0",
        "9.orbax-checkpoint-tmp-1",
        "٩",
        "latest",
    )
    more = place.part.with_name(rng.choice(digits))
    match rng.choice(("file", "empty folder", "folder", "half a copy")):
        case "file":
            more.write_bytes(b"9")
            what = "a file"
        case "empty folder":
            more.mkdir()
            what = "an empty folder"
        case "folder":
            (more / "expert_00").mkdir(parents=True)
            (more / "notes.txt").write_text("not a checkpoint")
            what = "a folder"
        case _:
            shutil.copytree(place.part, more)
            for file in files_of(more):
                if rng.random() < 0.3:
                    file.unlink()
            what = "a copy of the last step, as far as it came,"
    return f"{what} called {name(place, more)} added"


def hostile_tokenizer(place: Place, rng: Random) -> str:
    """An otherwise valid checkpoint, written by the library, whose tokenizer names files elsewhere."""
    from etils import epath

    from ernie_vilg_jax import checkpointing

    trees: dict[str, Any] = {item.name: raw_item(place.part, item.name) for item in items(place.part)}
    metadata = custom_metadata(place.part)
    hostile = (
        str(place.outside / "x"),
        "../y",
        "../../y",
        "../../outside/keep.txt",
        "a/../../../y",
        "a\\..\\y",
        ".",
        "",
    )
    file = rng.choice(hostile)
    content = np.frombuffer(b"not a tokenizer", np.uint8)
    words = trees["tokenizer"]
    trees["tokenizer"] = {**words, file: content} if rng.random() < 0.7 else {file: content}
    shutil.rmtree(place.part)
    checkpointing.save_once(epath.Path(place.part), trees, metadata)
    return f"the tokenizer of {name(place, place.part)} has a file called {file!r}"


def raw_item(step: Path, item: str) -> Any:
    """An item as a tree of NumPy arrays and PRNG keys, whatever its sharding was."""
    import jax
    from orbax.checkpoint import v1 as ocp

    path = str(step.absolute())
    shapes: Any = ocp.metadata(path, checkpointable_name=item).metadata
    where = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), shapes)
    tree = ocp.load(path, abstract, checkpointable_name=item)
    return jax.tree.map(lambda leaf: leaf if is_key(leaf) else np.asarray(leaf), tree)


def is_key(leaf: Any) -> bool:
    import jax

    return jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def custom_metadata(step: Path) -> dict[str, Any]:
    from orbax.checkpoint import v1 as ocp

    metadata: Any = ocp.metadata(str(step.absolute()), checkpointable_name="tokenizer").custom_metadata
    return dict(metadata or {})


BANK = (Damage("experts exchanged", experts_exchanged),)
CHECKPOINTS = (
    Damage("item of another run", item_of_another_run),
    Damage("arrays of another run", arrays_of_another_run),
    Damage("metadata of another checkpoint", metadata_of_another),
    Damage("item renamed", item_renamed),
    Damage("hostile tokenizer names", hostile_tokenizer),
)
STEPS = (
    Damage("item of another step", item_of_another_step),
    Damage("step renamed", step_renamed),
    Damage("names like steps", names_of_steps),
)
