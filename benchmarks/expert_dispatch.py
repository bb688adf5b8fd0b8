"""What ten denoising experts cost in the sampler, compared with one: time to compile and time per step.

    python benchmarks/expert_dispatch.py     # a small U-Net, for CPU
    python benchmarks/expert_dispatch.py --topology=v5e:2x2     # compiled for an absent TPU
    python benchmarks/expert_dispatch.py --base_channels=256 --latent_size=32 --batch=4 --dtype=bfloat16  # larger

Both samplers run the same U-Net, schedule and DDIM steps; they differ only in the number of experts (and so in the
switch that `ernie_vilg_jax.diffusion.loop` puts between stages). Compilations and runs alternate between the two:
each round gives one pair, and the medians over rounds are compared, so a busy machine slows both alike. Compiling is
also given in processor seconds of this process, which do not depend on other programs. Targets: compiling at most
1.3 x, a step at most 1.05 x.
"""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from absl import app, flags

from ernie_vilg_jax.diffusion.guidance import guided
from ernie_vilg_jax.diffusion.loop import sample
from ernie_vilg_jax.diffusion.samplers import DDIM, time_grid
from ernie_vilg_jax.diffusion.schedule import Denoised, make_schedule
from ernie_vilg_jax.diffusion.stages import make_stages
from ernie_vilg_jax.forecast.topology import devices_of
from ernie_vilg_jax.models.unet import UNet

TARGETS = {"compile": 1.3, "compile_processor": 1.3, "step": 1.05}

_EXPERTS = flags.DEFINE_integer("experts", 10, "Number of experts to compare with one.")
_STEPS = flags.DEFINE_integer("steps", 50, "DDIM steps.")
_BASE_CHANNELS = flags.DEFINE_integer("base_channels", 64, "Base channels of the U-Net (the paper's: 512).")
_RES_BLOCKS = flags.DEFINE_integer("num_res_blocks", 1, "Residual blocks a level (the paper's: 3).")
_MULTIPLIERS = flags.DEFINE_list("multipliers", ["1", "2", "3"], "Channel multipliers, one a level.")
_LATENT_SIZE = flags.DEFINE_integer("latent_size", 16, "Height and width of the latents.")
_BATCH = flags.DEFINE_integer("batch", 2, "Images sampled at once (guidance doubles this).")
_DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Compute type of the U-Net.")
_COMPILES = flags.DEFINE_integer("compiles", 3, "Rounds of compiling.")
_REPEATS = flags.DEFINE_integer("repeats", 7, "Rounds of sampling.")
_TOPOLOGY = flags.DEFINE_string("topology", "", "Compile for this TPU instead (v5e:2x2; needs pip install libtpu).")
_JSON = flags.DEFINE_string("json", "", "Also write the figures to this file.")

TEXT_LENGTH, TEXT_WIDTH, GUIDANCE_SCALE = 32, 128, 2.1


def make_unet() -> UNet:
    multipliers = tuple(int(m) for m in _MULTIPLIERS.value)
    return UNet(
        base_channels=_BASE_CHANNELS.value,
        channel_multipliers=multipliers,
        num_res_blocks=_RES_BLOCKS.value,
        attention_downsamplings=tuple(2**level for level in range(1, len(multipliers))),
        head_channels=min(64, _BASE_CHANNELS.value),
        dtype=jnp.dtype(_DTYPE.value),
    )


def make_text(key: jax.Array, batch: int) -> dict[str, jax.Array]:
    features = jax.random.normal(key, (batch, TEXT_LENGTH, TEXT_WIDTH))
    return {"text": features, "text_mask": jnp.ones((batch, TEXT_LENGTH), bool), "pooled": features.mean(1)}


def make_experts(unet: UNet, latents: jax.Array, text: Any, n: int) -> tuple[Any, ...]:
    """n sets of random parameters, each in its own memory; none is zero, so that no layer is a special case."""
    shapes = jax.eval_shape(
        lambda: unet.init(jax.random.key(0), latents, jnp.zeros(latents.shape[0], jnp.int32), **text)
    )
    leaves, structure = jax.tree.flatten(shapes)

    @jax.jit
    def draw(key: jax.Array) -> list[jax.Array]:
        noise = jax.random.normal(key, (1 << 16,)) * 0.02
        return [jnp.resize(noise, leaf.shape).astype(leaf.dtype) for leaf in leaves]

    return tuple(jax.tree.unflatten(structure, draw(jax.random.key(k, impl="rbg"))) for k in range(n))


def make_sampler(unet: UNet, n: int) -> Callable[..., jax.Array]:
    """run(experts, latents, text, null_text) -> latents, not yet compiled; a new function each time: never cached."""
    schedule = make_schedule("linear", 1000, 1e-4, 2e-2)
    stages = make_stages("uniform", n, schedule)
    sampler = DDIM(schedule, time_grid("trailing", _STEPS.value, schedule))

    def run(experts: Any, latents: jax.Array, text: Any, null_text: Any) -> jax.Array:
        def apply(params: Any, x: jax.Array, t: jax.Array) -> Denoised:
            network: Any = lambda x, t, text: unet.apply(params, x, t, **text)  # noqa: E731
            return guided(network, text, null_text, GUIDANCE_SCALE, schedule)(x, t)

        return sample(experts, apply, stages, sampler, latents, jax.random.key(0))

    return run


def timed(function: Callable[[], Any]) -> tuple[Any, float, float]:
    """The result of a call, its seconds, and the processor seconds of this process during the call."""
    wall, processor = time.perf_counter(), time.process_time()
    result = function()
    return result, time.perf_counter() - wall, time.process_time() - processor


def compile_rounds(unet: UNet, arguments: dict[int, Any]) -> tuple[dict[int, Any], dict[int, Any], dict[int, Any]]:
    """Wall and processor seconds of each round of lowering and compiling, by number of experts; and the programs."""
    wall: dict[int, list[float]] = {count: [] for count in arguments}
    processor: dict[int, list[float]] = {count: [] for count in arguments}
    programs: dict[int, Any] = {}
    for i in range(_COMPILES.value + 1):
        for count, args in arguments.items():
            lower = jax.jit(make_sampler(unet, count)).lower
            programs[count], seconds, work = timed(lambda lower=lower, args=args: lower(*args).compile())
            if i:  # The first round also pays for imports and start-up.
                wall[count].append(seconds)
                processor[count].append(work)
    return wall, processor, programs


def compare(samples: dict[int, list[float]]) -> dict[str, Any]:
    one, many = samples[min(samples)], samples[max(samples)]
    medians = statistics.median(one), statistics.median(many)
    ratio = medians[1] / medians[0]
    return {"one_s": medians[0], "many_s": medians[1], "ratio": ratio, "all_one_s": one, "all_many_s": many}


def measure_for_topology() -> dict[str, Any]:
    """Compiles for one chip of an absent TPU."""
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    chip = devices_of(_TOPOLOGY.value)[0]
    where = NamedSharding(Mesh(np.array([chip]), ("data",)), PartitionSpec())
    unet, n, side = make_unet(), _EXPERTS.value, _LATENT_SIZE.value
    latents = jax.random.normal(jax.random.key(0), (_BATCH.value, side, side, unet.latent_channels))
    text, null_text = (make_text(jax.random.key(k), _BATCH.value) for k in (1, 2))
    experts = make_experts(unet, latents, text, 1) * n

    def abstract(tree: Any) -> Any:
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=where), tree)

    arguments = {count: abstract((experts[:count], latents, text, null_text)) for count in (1, n)}
    print(f"{n} experts, {len(jax.tree.leaves(experts[0]))} arrays each, compiled for one chip of {_TOPOLOGY.value}")
    wall, processor, programs = compile_rounds(unet, arguments)
    return {
        "experts": n,
        "topology": _TOPOLOGY.value,
        "jax": jax.__version__,
        "compile": compare(wall),
        "compile_processor": compare(processor),
        "temporary_bytes": {str(c): p.memory_analysis().temp_size_in_bytes for c, p in programs.items()},
    }


def measure() -> dict[str, Any]:
    unet, n = make_unet(), _EXPERTS.value
    side = _LATENT_SIZE.value
    latents = jax.random.normal(jax.random.key(0), (_BATCH.value, side, side, unet.latent_channels))
    text, null_text = (make_text(jax.random.key(k), _BATCH.value) for k in (1, 2))
    experts = make_experts(unet, latents, text, n)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(experts[0]))
    print(f"{n} experts of {parameters / 1e6:.1f}M parameters, {_STEPS.value} steps, on {jax.devices()[0].device_kind}")

    arguments = {count: (experts[:count], latents, text, null_text) for count in (1, n)}
    compiling, compiling_processor, programs = compile_rounds(unet, arguments)

    stepping: dict[int, list[float]] = {1: [], n: []}
    for i in range(_REPEATS.value + 1):
        for count in (1, n):
            program = programs[count]
            latest, wall, _ = timed(lambda p=program, count=count: jax.block_until_ready(p(*arguments[count])))
            assert jnp.isfinite(latest).all(), "the sampler returned NaN or infinite numbers"
            if i:
                stepping[count].append(wall / _STEPS.value)

    return {
        "experts": n,
        "parameters_per_expert": parameters,
        "steps": _STEPS.value,
        "batch": _BATCH.value,
        "latent_size": side,
        "dtype": _DTYPE.value,
        "device": jax.devices()[0].device_kind,
        "host": f"{platform.machine()}, {os.cpu_count()} cores",
        "jax": jax.__version__,
        "compile": compare(compiling),
        "compile_processor": compare(compiling_processor),
        "step": compare(stepping),
        "temporary_bytes": {str(c): p.memory_analysis().temp_size_in_bytes for c, p in programs.items()},
    }


def main(argv: list[str]) -> None:
    del argv
    figures = measure_for_topology() if _TOPOLOGY.value else measure()
    n = figures["experts"]
    for name, target in TARGETS.items():
        if name not in figures:
            continue
        row = figures[name]
        verdict = "within" if row["ratio"] <= target else "OVER"
        print(
            f"{name:17s} 1 expert {row['one_s']:.4g} s   {n} experts {row['many_s']:.4g} s   "
            f"ratio {row['ratio']:.3f}   ({verdict} {target})"
        )
    print("temporary memory " + ", ".join(f"{c}: {b / 2**20:.1f} MiB" for c, b in figures["temporary_bytes"].items()))
    print(json.dumps(figures))
    if _JSON.value:
        with open(_JSON.value, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    app.run(main)
