"""Ours against diffusers in PyTorch, on this machine's processor, at equal architecture.

    python -m benchmarks.compare --output=compare.json                 # everything; resumes where it stopped
    python -m benchmarks.compare --output=compare.json --sizes=demo,large --programs=train,denoise

Every measurement is a process of its own; processes alternate (ours, eager, channels_last, compiled, ours, ...) for
`--rounds` rounds, and each gives the median of `--repeats` runs after a first one, which compiles. A ratio is seconds
of PyTorch over ours: above 1 ours is faster. Nothing else should run meanwhile. Needs torch, diffusers, transformers.

Programs: a U-Net's training step (AdamW), its prediction, the decoder, the text encoder; all fp32.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).parents[1]
PROGRAMS = ("train", "denoise", "decode", "text")
HOW = ("ours", "eager", "channels_last", "compiled")
TEXT_WIDTH, TEXT_LENGTH, HEAD, VOCABULARY = 256, 77, 64, 1000


class Size(NamedTuple):
    """U-Net, batch and side of latents; channels of the autoencoder; layers of the text encoder."""

    base: int
    multipliers: tuple[int, ...]
    side: int
    batch: int
    decoder: tuple[int, ...]
    layers: int


SIZES = {
    "demo": Size(64, (1, 2), 8, 64, (64, 128), 3),
    "small": Size(64, (1, 2, 3), 16, 8, (64, 128), 6),
    "medium": Size(64, (1, 2, 3), 32, 4, (64, 128, 128), 6),
    "large": Size(128, (1, 2, 3, 4), 32, 2, (128, 256, 256), 12),
}


def inputs(size: Size) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.standard_normal(shape).astype(np.float32)  # noqa: E731
    latents = size.batch, size.side, size.side, 4
    return {
        "x": normal(*latents),
        "noise": normal(*latents),
        "text": normal(size.batch, TEXT_LENGTH, TEXT_WIDTH),
        "t": np.full(size.batch, 500),
        "tokens": rng.integers(1, VOCABULARY, (size.batch, TEXT_LENGTH)).astype(np.int32),
    }


def our_unet(size: Size) -> Any:
    from ernie_vilg_jax.models.unet import UNet

    downsamplings = tuple(2**level for level in range(1, len(size.multipliers)))
    return UNet(size.base, size.multipliers, 2, downsamplings, HEAD, pooled_text=False)


def their_unet(size: Size) -> Any:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    levels = range(len(size.multipliers))
    return UNet2DConditionModel(
        sample_size=size.side,
        block_out_channels=tuple(size.base * multiplier for multiplier in size.multipliers),
        down_block_types=tuple("SimpleCrossAttnDownBlock2D" if i else "ResnetDownsampleBlock2D" for i in levels),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=tuple("SimpleCrossAttnUpBlock2D" if i else "ResnetUpsampleBlock2D" for i in reversed(levels)),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=HEAD,
        resnet_time_scale_shift="scale_shift",
        act_fn="silu",
    )


def ours(size: Size, program: str) -> Callable[[], Any]:
    """A function that runs `program` once, to its end."""
    import jax
    import jax.numpy as jnp
    import optax

    from ernie_vilg_jax.models.autoencoder import Autoencoder
    from ernie_vilg_jax.models.text_encoder import TextEncoder
    from ernie_vilg_jax.sharding.compiler_options import CPU_OPTIONS

    given, key = inputs(size), jax.random.key(0)
    mask = jnp.ones((size.batch, TEXT_LENGTH), bool)
    if program == "text":
        encoder = TextEncoder(
            width=TEXT_WIDTH, num_layers=size.layers, num_heads=4, vocab_size=VOCABULARY, max_length=TEXT_LENGTH
        )
        params = jax.jit(encoder.init)(key, given["tokens"], mask)
        encode = jax.jit(encoder.apply)
        return lambda: jax.block_until_ready(encode(params, given["tokens"], mask))
    if program == "decode":
        autoencoder = Autoencoder(size.decoder, 2)
        side = size.side * autoencoder.downsampling
        params = jax.jit(autoencoder.init)(key, jnp.zeros((1, side, side, 3)), key)
        decode: Any = jax.jit(lambda p, x: autoencoder.apply(p, x, method=Autoencoder.decode))
        return lambda: decode(params, given["x"]).block_until_ready()
    unet = our_unet(size)
    rest = given["t"], given["text"], mask, jnp.zeros((size.batch, TEXT_WIDTH))
    params = jax.jit(unet.init)(key, given["x"], *rest)
    if program == "denoise":
        predict = jax.jit(unet.apply)
        return lambda: predict(params, given["x"], *rest).block_until_ready()
    optimizer = optax.adamw(1e-4)
    state = [params, jax.jit(optimizer.init)(params)]

    def step(params: Any, opt: Any, x: jax.Array, noise: jax.Array) -> Any:
        loss = lambda p: jnp.mean((unet.apply(p, x, *rest) - noise) ** 2)  # noqa: E731
        value, grads = jax.value_and_grad(loss)(params)
        updates, opt = optimizer.update(grads, opt, params)
        return optax.apply_updates(params, updates), opt, value

    compiled = jax.jit(step, donate_argnums=(0, 1), compiler_options=dict(CPU_OPTIONS))

    def run() -> None:
        *state[:], loss = compiled(*state, given["x"], given["noise"])
        loss.block_until_ready()

    return run


def theirs(size: Size, program: str, how: str) -> Callable[[], Any]:
    """The same by diffusers and transformers."""
    import torch
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from transformers import BertConfig, BertModel

    given = {name: torch.tensor(array) for name, array in inputs(size).items()}
    layout = torch.channels_last if how == "channels_last" else torch.contiguous_format
    x, noise = (given[name].permute(0, 3, 1, 2).contiguous(memory_format=layout) for name in ("x", "noise"))

    def ready(module: Any) -> Any:
        module = module if program == "text" else module.to(memory_format=layout)
        return torch.compile(module) if how == "compiled" else module

    def without_gradients(function: Callable[[], Any]) -> Callable[[], Any]:
        return lambda: torch.no_grad()(function)()

    if program == "text":
        make: Any = BertConfig
        config = make(
            vocab_size=VOCABULARY,
            hidden_size=TEXT_WIDTH,
            num_hidden_layers=size.layers,
            num_attention_heads=4,
            intermediate_size=4 * TEXT_WIDTH,
            max_position_embeddings=TEXT_LENGTH,
        )
        bert = ready(BertModel(config).eval())
        return without_gradients(lambda: bert(given["tokens"]))
    if program == "decode":
        n = len(size.decoder)
        blocks: Any = {
            "down_block_types": ("DownEncoderBlock2D",) * n,
            "up_block_types": ("UpDecoderBlock2D",) * n,
            "block_out_channels": size.decoder,
        }
        decoder: Any = AutoencoderKL(**blocks, layers_per_block=2, latent_channels=4).eval()
        decode = ready(torch.nn.Sequential(decoder.post_quant_conv, decoder.decoder))
        return without_gradients(lambda: decode(x))
    unet = their_unet(size)
    model = ready(unet)
    if program == "denoise":
        return without_gradients(lambda: model(x, given["t"], given["text"]))
    optimizer = torch.optim.AdamW(unet.parameters(), 1e-4)

    def step() -> None:
        optimizer.zero_grad()
        ((model(x, given["t"], given["text"]).sample - noise) ** 2).mean().backward()
        optimizer.step()

    return step


def one_cell(size: str, program: str, how: str, repeats: int) -> dict[str, Any]:
    """Seconds of a run: the median and the least; and of the first, which compiles."""
    run = ours(SIZES[size], program) if how == "ours" else theirs(SIZES[size], program, how)

    def timed() -> float:
        started = time.perf_counter()
        run()
        return time.perf_counter() - started

    first, seconds = timed(), [timed() for _ in range(repeats)]
    return {"median": statistics.median(seconds), "least": min(seconds), "first": first}


def measure(name: str, repeats: int) -> dict[str, Any]:
    """`one_cell` in a process of its own; {"error": its last line} if it fails."""
    line = [sys.executable, "-m", "benchmarks.compare", f"--cell={name}", f"--repeats={repeats}"]
    done = subprocess.run(line, cwd=ROOT, env={**os.environ, "JAX_PLATFORMS": "cpu"}, capture_output=True, text=True)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def report(found: dict[str, list[dict[str, Any]]], sizes: list[str], programs: list[str]) -> str:
    """A table of median milliseconds and, against the fastest PyTorch, the ratio; '-' where nothing was measured."""
    lines = ["| size | program | " + " | ".join(f"{how}, ms" for how in HOW) + " | ratio |", "| --- " * 7 + "|"]
    for size in sizes:
        for program in programs:
            medians = {}
            for how in HOW:
                seconds = [run["median"] for run in found.get(f"{size}/{program}/{how}", []) if "median" in run]
                medians[how] = statistics.median(seconds) if seconds else None
            mine, others = medians["ours"], [value for how, value in medians.items() if how != "ours" and value]
            ratio = f"{min(others) / mine:.2f}" if mine and others else "-"
            cells = [f"{1000 * value:.1f}" if value else "-" for value in medians.values()]
            lines.append(f"| {size} | {program} | {' | '.join(cells)} | {ratio} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        "benchmarks.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("compare.json"))
    parser.add_argument("--sizes", default=",".join(SIZES))
    parser.add_argument("--programs", default=",".join(PROGRAMS))
    parser.add_argument("--how", default=",".join(HOW), help="some of them: compiled takes minutes a size")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.cell:
        size, program, how = given.cell.split("/")
        print(json.dumps(one_cell(size, program, how, given.repeats)))
        return
    sizes, programs, ways = given.sizes.split(","), given.programs.split(","), given.how.split(",")
    for flag, names, known in (("sizes", sizes, tuple(SIZES)), ("programs", programs, PROGRAMS), ("how", ways, HOW)):
        if unknown := sorted(set(names) - set(known)):
            parser.error(f"--{flag}={','.join(unknown)}: must be of {', '.join(known)}")
    found = json.loads(given.output.read_text()) if given.output.exists() else {}
    for number in range(given.rounds):
        for name in (f"{size}/{program}/{how}" for size in sizes for program in programs for how in ways):
            runs = found.setdefault(name, [])
            if len(runs) > number:
                continue
            runs.append(measure(name, given.repeats))
            print(name, runs[-1], flush=True)
            partial = given.output.with_suffix(".partial")
            partial.write_text(json.dumps(found, indent=1))
            partial.replace(given.output)
    print(report(found, sizes, programs))


if __name__ == "__main__":
    main()
