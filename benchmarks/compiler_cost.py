"""What each choice gains on TPU, by the compiler's estimate, for a training and a sampling step of the paper's U-Net.

    python -m benchmarks.compiler_cost                                         # 32 x 32 latents, v5p:2x2x1
    python -m benchmarks.compiler_cost --latents=128 --images=1
    python -m benchmarks.compiler_cost --program=sampling --latents=128 --images=2

Starts from a plain program (parameters cut along `fsdp` and replicated where they are used, gradients left to the
compiler, default options, blocks recomputed in the backward pass, attention that writes its logits) and adds one choice
after the other. Needs libtpu, but no TPU. The training step is of one expert, with AdamW and average; its text encoder
has a single layer, because only the U-Net is compared. docs/tpu.md says what the figures mean. Each program takes
minutes to compile.
"""

import resource
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
from absl import app, flags
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from configs import paper
from ernie_vilg_jax.chips import Chip
from ernie_vilg_jax.diffusion.schedule import Denoised
from ernie_vilg_jax.forecast.programs import build
from ernie_vilg_jax.forecast.report import GIB, Built, Forecast, forecast
from ernie_vilg_jax.forecast.topology import describe
from ernie_vilg_jax.model import build_model
from ernie_vilg_jax.models.text_encoder import Text
from ernie_vilg_jax.sampling.generator import guided_prediction
from ernie_vilg_jax.sampling.turns import working
from ernie_vilg_jax.sharding import compiler_options, rules
from ernie_vilg_jax.sharding.mesh import make_mesh

_TOPOLOGY = flags.DEFINE_string("topology", "v5p:2x2x1", "The slice; parameters are cut over all its chips.")
_PROGRAM = flags.DEFINE_enum("program", "training", ["training", "sampling"], "Which step.")
_LATENTS = flags.DEFINE_integer("latents", 32, "Side of the latents; images are eight times as large.")
_IMAGES = flags.DEFINE_integer("images", 8, "Images a chip.")
_CHOICES = flags.DEFINE_list("choices", None, "Only these rows, by their first word; all without it.")

Choice = tuple[str, Callable[[ConfigDict], Any]]


def _kernel(config: ConfigDict) -> None:
    config.model.attention_kernel_from = 256


def _keep_all(config: ConfigDict) -> None:
    config.model.unet.remat = False


# Each is added to those above it. "gathered" is not a setting: only the plain row runs without it.
TRAINING: tuple[Choice, ...] = (
    ("plain", lambda config: None),
    ("gathered: gradients are reduce-scattered (sharding/rules.py, compiler_options.py)", lambda config: None),
    ("kept: nothing is recomputed (unet.remat=False)", _keep_all),
    ("kernel: attention never writes its logits (sharding/splash_attention.py)", _kernel),
)
SAMPLING: tuple[Choice, ...] = (TRAINING[0], TRAINING[3])


def base_config() -> ConfigDict:
    """One of the paper's experts."""
    config = paper.get_config("experts")
    config.name = "one expert of the paper's"
    config.experts.n = 1
    config.data.cache_latents = True
    config.model.image_size = 8 * _LATENTS.value
    config.model.text_encoder.num_layers = 1
    config.model.unet.remat = True
    config.model.attention_kernel_from = 0
    config.mesh = ConfigDict({"data": 1, "fsdp": -1, "tensor": 1, "expert": 1})
    return config


def training(config: ConfigDict, mesh: Mesh, chip: Chip, plain: bool) -> Forecast:
    config.phases.experts.batch_size = _IMAGES.value * mesh.size
    if not plain:
        return forecast(build("training", config, mesh), chip)
    with mock.patch.object(rules, "gather", _replicated), mock.patch.object(compiler_options, "TPU_OPTIONS", {}):
        return forecast(build("training", config, mesh), chip)


def _replicated(tree: Any, mesh: Mesh, dtype: Any) -> Any:
    """FSDP as usually written: parameters replicated in the compute dtype, gradients left to the compiler."""
    whole = rules.replicated(mesh)
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf.astype(dtype), whole), tree)


def sampling(config: ConfigDict, mesh: Mesh, chip: Chip, plain: bool) -> Forecast:
    """One step with guidance: every image twice through the expert, whole on each chip in bf16."""
    del plain
    model, batch = build_model(config), _IMAGES.value * mesh.size
    over = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    length, width = model.text_encoder.max_length, model.text_encoder.width
    unet = model.abstract_unet()
    unet = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16), unet)
    unet = rules.placed(unet, working(unet, mesh))

    def text(count: int, sharding: Any) -> Text:
        shapes = ((count, length, width), jnp.bfloat16), ((count, length), jnp.bool_), ((count, width), jnp.bfloat16)
        params: Any = [jax.ShapeDtypeStruct(*shape, sharding=sharding) for shape in shapes]
        return Text(*params)

    x = jax.ShapeDtypeStruct((batch, *model.latent_shape), jnp.float32, sharding=over)
    t = jax.ShapeDtypeStruct((batch,), jnp.int32, sharding=over)

    def step(unet: Any, x: jax.Array, t: jax.Array, words: Text, null: Text) -> Denoised:
        return guided_prediction(model, unet, x, t, words, (null, 2.1))

    inputs = unet, x, t, text(batch, over), text(1, rules.replicated(mesh))
    return forecast(Built("sampling", mesh, batch, jax.jit(step, out_shardings=over), inputs, {}), chip)


def _processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main(argv: list[str]) -> None:
    """Prints one row for each choice as soon as it is done."""
    del argv
    devices, chip = describe(_TOPOLOGY.value)
    config = base_config()
    mesh = make_mesh(config.mesh, devices)
    compile_step, choices = (training, TRAINING) if _PROGRAM.value == "training" else (sampling, SAMPLING)
    side = _LATENTS.value
    print(f"{_PROGRAM.value}, {side} x {side} latents, {_IMAGES.value} a chip, {_TOPOLOGY.value}\n")
    heads = "choice", "estimate, ms", "of it kernels", "against the first", "temporary, GiB", "collectives, GiB"
    print(f"| {' | '.join(heads)} | compiled in |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    first: float | None = None
    for name, choose in choices:
        choose(config)
        if _CHOICES.value and name.split(":")[0] not in _CHOICES.value:
            continue
        before = _processor_seconds()
        found = compile_step(config.copy_and_resolve_references(), mesh, chip, name == "plain")
        seconds = found.seconds
        first = first or seconds
        # jaxlib cannot print the text of some programs, which holds the estimate.
        cells = (f"{seconds * 1e3:.1f}", f"{first / seconds:.2f} x") if seconds and first else ("unread", "")
        traffic = sum(size for _, size in found.traffic.values())
        print(
            f"| {name} | {cells[0]} | {found.kernel_seconds * 1e3:.1f} | {cells[1]} | {found.temporary / GIB:.2f} | "
            f"{traffic / GIB:.2f} | {_processor_seconds() - before:.0f} processor s |",
            flush=True,
        )
        for part, share in found.shares.items():
            print(f"    {part:14s} {share:6.1%}", flush=True)


if __name__ == "__main__":
    app.run(main)
