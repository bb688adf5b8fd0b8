"""Runs requests: holds the parameters and the compiled programs, and logs when one is compiled."""

import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from ernie_vilg_jax.data.sizes import Size
from ernie_vilg_jax.diffusion.inpainting import Known
from ernie_vilg_jax.diffusion.samplers import Sampler
from ernie_vilg_jax.diffusion.stages import Stages
from ernie_vilg_jax.model import Model, ModelParams
from ernie_vilg_jax.pipeline.attention_maps import look
from ernie_vilg_jax.pipeline.request import Request
from ernie_vilg_jax.sampling.generator import Generator
from ernie_vilg_jax.sampling.inputs import Step
from ernie_vilg_jax.sampling.turns import fetched

MOST_PROGRAMS = 32
"""Programs of one model: each takes tens of megabytes, and visitors of a web page could request dozens."""

log = logging.getLogger(__name__)

Words = tuple[np.ndarray, np.ndarray]
"""tokens [N, L] int32 and mask [N, L] bool."""
Decode = Callable[[], np.ndarray]
"""decode() -> images [M, b, H, W, 3] in [-1, 1] of a step's estimate of the clean latents."""
OnStep = Callable[[Step, Decode], None]


class Given(NamedTuple):
    """The given images; None without them."""

    start: jax.Array | None = None
    """[1, h, w, c]: clean latents that sampling starts from."""
    known: Known | None = None
    """Latents to keep."""


NOTHING = Given()


class ProgramInputs(NamedTuple):
    """The inputs of a program beside the parameters."""

    tokens: np.ndarray
    """[M, b, L]"""
    mask: np.ndarray
    numbers: np.ndarray
    """[M, b] int: the images' numbers, which decide their noise."""
    null: Words
    """[1, L], or [M, b, L]: one for each image."""
    seed: np.uint32
    guidance: Any
    """`Guidance.numbers`."""
    given: Given


Run = Callable[[Sampler, ProgramInputs, OnStep | None], Any]
"""run(sampler, inputs, on_step) -> images [M, b, H, W, 3] fp32 in [-1, 1]."""


class Runner:
    """A trained model in one of the modes of `sampling.modes`, with the programs compiled so far."""

    def __init__(self, model: Model, stages: Stages, params: ModelParams, mode: str, mesh: Mesh | None) -> None:
        self.model = model
        self.stages = stages
        self.params = params
        self.mode = mode
        self.mesh = mesh
        self.most_programs = MOST_PROGRAMS
        self.compiling = ""
        """What is being compiled now."""
        self._programs: OrderedDict[tuple[Any, ...], Run] = OrderedDict()
        self._compiled: set[tuple[Any, ...]] = set()

    def encode(self, image: np.ndarray) -> jax.Array:
        """[h, w, c] clean latents of an image [H, W, 3] in [-1, 1]."""
        hold: Any = partial(fetched, mesh=self.mesh) if self.mode == "streamed" else contextlib.nullcontext
        with hold(self.params.autoencoder) as params:
            return jax.block_until_ready(_encode(self.model, params, image[None]))[0]

    def __call__(
        self,
        request: Request,
        rows: np.ndarray,
        words: Words,
        negative: Words,
        given: Given,
        *,
        on_step: OnStep | None = None,
        attention: bool = False,
    ) -> np.ndarray:
        """Images [M, b, H, W, 3] fp32 in [-1, 1] of the images `rows` [M, b]; those past the last are padding.

        `words` are of all images, `negative` of all or of one for all. With `on_step` the steps are run one by one.
        With `attention` as well, each `Step.seen` is the attention of the expert (`attention_maps.look`).
        """
        sampler, params = request.sampler, request.params
        filled = np.minimum(rows - request.first, len(words[0]) - 1)
        tokens, mask = (leaf[filled] for leaf in words)
        null = negative if len(negative[0]) == 1 else (negative[0][filled], negative[1][filled])
        guidance = request.guidance.numbers(self.stages)
        inputs = ProgramInputs(tokens, mask, rows, null, np.uint32(params.seed % 2**32), guidance, given)
        # Steps, grid and numbers of the sampler are data, as are those of guidance.
        shapes = str(jax.tree.map(np.shape, inputs))
        key = request.size, on_step is not None, attention, jax.tree.structure(sampler), shapes
        what = f"{rows.size} image{'s' * (rows.size > 1)} of {request.size} with {params.sampler}"
        # Attention reads the current mesh while it is traced (sharding/splash_attention.py).
        here = contextlib.nullcontext() if self.mesh is None else jax.set_mesh(self.mesh)
        with here, self._announced(key, what):
            return self._program(key)(sampler, inputs, on_step)

    def _program(self, key: tuple[Any, ...]) -> Run:
        """The program of a key; a new one replaces the least recently used."""
        if key not in self._programs:
            if len(self._programs) >= self.most_programs:
                dropped, _ = self._programs.popitem(last=False)
                self._compiled.discard(dropped)
            self._programs[key] = self._make(*key[:3])
        self._programs.move_to_end(key)
        return self._programs[key]

    def _make(self, size: Size, watched: bool, attention: bool) -> Run:
        asked = partial(look, self.model) if attention else None
        generator = Generator(self.model, self.mode, self.stages, mesh=self.mesh, look=asked, watched=watched)

        def run(sampler: Sampler, inputs: ProgramInputs, on_step: OnStep | None) -> np.ndarray:
            noise, keys = _begin(
                self.model, size, sampler.timesteps[0], inputs.seed, inputs.numbers, inputs.given.start
            )

            def report(step: Step) -> None:
                assert on_step is not None
                on_step(step, lambda: self._preview(generator, step.x0))

            return generator(
                self.params, sampler, inputs.tokens, inputs.mask, inputs.null, noise, inputs.guidance, keys,
                known=inputs.given.known, on_step=report if on_step else None,
            )  # fmt: skip

        return run

    def _preview(self, generator: Generator, latents: list[jax.Array]) -> np.ndarray:
        with self._announced(("preview", latents[0].shape), "previews"):
            return generator.decode(self.params, latents)

    @contextlib.contextmanager
    def _announced(self, key: tuple[Any, ...], what: str) -> Iterator[None]:
        """Logs, if `key` is new, that `what` is being compiled in the block, and afterwards how long it took."""
        if key in self._compiled:
            yield
            return
        log.info("compiling for %s", what)
        self.compiling = what
        try:
            with compile_seconds() as seconds:
                yield
        finally:
            self.compiling = ""
        self._compiled.add(key)
        log.info("compiling took %.1f s", seconds())


def _noise(
    model: Model, size: Size, t: Any, seed: Any, numbers: Any, start: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """The start of sampling at t [M, b, h, w, c], and keys [M, b]: by the images' numbers, whatever the batch."""
    keys = jax.vmap(jax.vmap(partial(jax.random.fold_in, jax.random.key(seed))))(numbers)
    shape = model.latent_shape_of(*size)
    noise = jax.vmap(jax.vmap(lambda key: jax.random.normal(key, shape)))(keys)
    if start is not None:
        noise = model.schedule.add_noise(start, noise, t)
    return noise, keys


# Compiled once for all images of a model.
_begin = jax.jit(_noise, static_argnums=(0, 1))
_encode = jax.jit(Model.encode_image, static_argnums=0)


@contextlib.contextmanager
def compile_seconds() -> Iterator[Callable[[], float]]:
    """Yields a function that returns the seconds that jax traced, lowered and compiled in the block."""
    spans: list[tuple[float, float]] = []

    def note(event: str, duration_secs: float, **_: Any) -> None:
        if event.startswith("/jax/core/compile/"):
            spans.append((time.monotonic() - duration_secs, time.monotonic()))

    def covered() -> float:
        total, reached = 0.0, 0.0
        for start, end in sorted(spans):  # they may be nested
            total, reached = total + max(0.0, end - max(start, reached)), max(reached, end)
        return total

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        yield covered
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
