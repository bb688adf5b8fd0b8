"""Flags that several commands have: the options of sampling, and the processes of a job."""

import re
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from absl import flags

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.sampling_params import ACCEPTS, DEFAULTS, parse

ARGUMENTS = (
    *ACCEPTS,
    *("prompt", "image", "mask", "strength", "rerank", "style", "translate", "again", "checkpoint", "mode", "mesh"),
    "lora",
)
"""Arguments of the pipeline and of `load` that are flags of the same name."""


def define_sampling() -> None:
    """Defines a flag for each field of `SamplingParams`."""
    for name, accepts in ACCEPTS.items():
        default = f"{DEFAULTS[name]!r}" if DEFAULTS[name] not in ("", ()) else "none"
        help = f"{accepts.help} (default: the checkpoint's, else {default})"
        if accepts.choices:
            flags.DEFINE_string(name, None, f"{help} One of {', '.join(filter(None, accepts.choices))}.")
        elif name == "negative_prompt":
            flags.DEFINE_multi_string(name, None, help)
        elif isinstance(DEFAULTS[name], tuple):
            flags.DEFINE_list(name, None, help)
        else:
            define = flags.DEFINE_integer if isinstance(DEFAULTS[name], int) else flags.DEFINE_float
            define(name, None, help)


def sampling_options(without: Container[str] = ()) -> dict[str, Any]:
    """The `SamplingParams` set by flags; each is checked."""
    values = {name: flags.FLAGS[name].value for name in ACCEPTS if name not in without}
    with naming_flags():
        return {name: parse(name, value) for name, value in values.items() if value is not None}


def define_adapters() -> None:
    """Defines the flags of adapters that are added to a model."""
    flags.DEFINE_string(
        "lora",
        None,
        "Adapters to add to the model: a run of `finetune --method=lora`, a checkpoint of it, a .safetensors file, or "
        "hf://OWNER/NAME.",
    )
    flags.DEFINE_float("lora_scale", 1.0, "How much of the adapters is added; 1 is as they were trained.")


def adapters() -> dict[str, Any]:
    """The arguments of `pipeline.load` that those flags are."""
    return {"lora": flags.FLAGS["lora"].value, "scale": flags.FLAGS["lora_scale"].value}


def axis_sizes(values: Sequence[str] | None) -> dict[str, int] | None:
    """{"expert": 4, "data": 2} of ["expert=4", "data=2"], the value of --mesh."""
    if not values:
        return None
    try:
        return {axis.strip(): int(size) for axis, size in (part.split("=") for part in values)}
    except ValueError as error:
        raise UserError(f"--mesh={','.join(values)} must be axes and sizes, such as --mesh=expert=4,data=2") from error


@contextmanager
def naming_flags() -> Iterator[None]:
    """In messages, replaces the names of the pipeline's arguments by their flags."""
    try:
        yield
    except UserError as error:
        raise UserError(as_flags(str(error))) from error


def as_flags(message: str) -> str:
    """`message` about arguments, about flags: mesh={'expert': 2} as --mesh=expert=2."""
    message = re.sub(r"\bmesh=\{'(\w+)': (\d+)\}", r"--mesh=\1=\2", message)
    message = re.sub(r"(?<!-)\b(mode)='(\w+)'", r"--\1=\2", message)
    message = re.sub(r"(?<!-)\b(prompt|image|mask)=(?=$|[^\s'])", r"--\1=", message)
    message = re.sub(rf"^(?=({'|'.join(ARGUMENTS)})[=:])", "--", message)
    message = re.sub(r"^scale(?=[=:])", "--lora_scale", message)
    message = re.sub(r"\b(as|with) lora\b", r"\1 --lora", message)
    return re.sub(r"^the (image|mask)\b", r"--\1: the \1", message)


def define_processes() -> None:
    """Defines the flags that say how the processes of a job find each other."""
    flags.DEFINE_boolean("distributed", False, "One of several processes, which find each other.")
    flags.DEFINE_string("coordinator", None, "HOST:PORT at which process 0 can be reached; any free port.")
    flags.DEFINE_integer("num_processes", None, "With --coordinator: how many processes there are.")
    flags.DEFINE_integer("process_id", None, "With --coordinator: which this one is, from 0.")
    flags.DEFINE_integer("startup_timeout", 300, "Seconds that processes wait for each other at the start.")


def peers() -> tuple[Any, ...]:
    """The arguments of `processes.together`."""
    names = ("distributed", "coordinator", "num_processes", "process_id", "startup_timeout")
    return tuple(flags.FLAGS[name].value for name in names)


def have_peers() -> bool:
    """Whether any flag says that there are other processes."""
    return any(value is not None and value is not False for value in peers()[:4])
