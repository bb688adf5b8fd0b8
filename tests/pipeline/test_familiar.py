"""Calls as hands trained on diffusers type them: each works, or raises one sentence that names ours."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from PIL import Image

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.model import Model
from ernie_vilg_jax.pipeline import Images, Pipeline, Progress
from ernie_vilg_jax.pipeline.request import Request
from ernie_vilg_jax.sampling.inputs import Step
from tests.random_model import make_pipe

PICTURE = Image.new("RGB", (16, 16), "red")
MASK = Image.new("L", (16, 16), 255)
KARRAS = DPMSolverMultistepScheduler(use_karras_sigmas=True)


class Double:
    """A `Runner` that compiles nothing: it keeps the request, reports its steps and paints noise by the numbers."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.request: Any = None
        self.given: Any = None

    def encode(self, image: np.ndarray) -> np.ndarray:
        return np.zeros((4, 4, 4), np.float32)

    def __call__(
        self, request: Request, rows: np.ndarray, words: Any, negative: Any, given: Any, *,
        on_step: Callable[..., None] | None = None, attention: bool = False,
    ) -> np.ndarray:  # fmt: skip
        self.request, self.given = request, given
        assert rows.min() >= request.first and len(words[0]) == len(request.prompts)
        images = np.stack([_noise(request.params.seed, number) for number in rows.flat]).reshape(*rows.shape, 16, 16, 3)
        for index, timestep in enumerate(request.sampler.timesteps):
            if on_step is not None:
                on_step(Step(index, int(timestep), 0, [], []), lambda: images)
        return images


def _noise(seed: int, number: int) -> np.ndarray:
    return np.random.default_rng((seed, int(number))).uniform(-1, 1, (16, 16, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def pipe() -> Iterator[Pipeline]:
    made = make_pipe()
    made.__dict__["runner"] = Double(made.model)
    yield made


def asked(pipe: Pipeline) -> Request:
    return pipe.runner.request  # type: ignore[attr-defined]


WORKS: dict[str, tuple[dict[str, Any], Callable[[Images, Request], object]]] = {
    "prompt": ({"prompt": "a cat"}, lambda made, request: request.prompts == ("a cat",)),
    "num_inference_steps": ({"num_inference_steps": 5}, lambda made, request: request.params.steps == 5),
    "num_images_per_prompt": ({"num_images_per_prompt": 3}, lambda made, request: len(made.images) == 3),
    "generator": (
        {"generator": torch.Generator("cpu").manual_seed(7)},
        lambda made, request: made.seed == made[0].info["seed"] == request.params.seed == 7,
    ),
    "generators, one": ({"generator": [torch.Generator().manual_seed(8)]}, lambda made, request: made.seed == 8),
    "no generator": ({"generator": None}, lambda made, request: made.seed == 0),
    "seed=None": ({"seed": None}, lambda made, request: made.seed == request.params.seed > 0),
    "height and width": ({"height": 16, "width": 16}, lambda made, request: made[0].size == (16, 16)),
    "output_type np": (
        {"output_type": "np", "num_images": 2},
        lambda made, request: (made.images.shape, made.images.dtype) == ((2, 16, 16, 3), "float32")
        and made[0].size == (16, 16) and 0 <= made.images.min() < made.images.max() <= 1,
    ),
    "output_type pil": ({"output_type": "pil"}, lambda made, request: made.images is made),
    "return_dict=False": ({"return_dict": False}, lambda made, request: isinstance(made, tuple) and len(made) == 1),
    "scheduler by name": (
        {"scheduler": "UniPCMultistepScheduler"}, lambda made, request: request.params.sampler == "unipc"
    ),
    "scheduler": (
        {"scheduler": KARRAS},
        lambda made, request: (request.params.sampler, request.params.grid) == ("dpmpp_2m", "karras"),
    ),
    "sampler by its class": (
        {"scheduler": DPMSolverMultistepScheduler}, lambda made, request: request.params.sampler == "dpmpp_2m"
    ),
    "negative_prompt, guidance": (
        {"negative_prompt": "red", "guidance_scale": 7.5, "guidance_rescale": 0.7, "eta": 0.5, "sampler": "ddim"},
        lambda made, request: request.negative == ("red",) and request.params.eta == 0.5,
    ),
    "image": (
        {"image": PICTURE, "strength": 0.5, "num_inference_steps": 10},
        lambda made, request: len(request.sampler.timesteps) == 5 and made[0].info["image"] == "given",
    ),
    "mask_image": (
        {"image": PICTURE, "mask_image": MASK},
        lambda made, request: request.strength == 1 and made[0].info["mask"] == "given",
    ),
    "None is left out": ({"latents": None, "clip_skip": None, "height": None}, lambda made, request: len(made) == 1),
}  # fmt: skip


@pytest.mark.parametrize("name", WORKS)
def test_a_call_works(name: str, pipe: Pipeline) -> None:
    options, holds = WORKS[name]
    made = pipe(**{"prompt": "a cat", **options})
    assert holds(made, asked(pipe))


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"height": 515}, UserError, "height=515 must be a multiple of 4 .*: 512 and 516 are the nearest"),
        ({"width": 3}, UserError, "width=3 must be a multiple of 4 .*: 4 is the nearest"),
        ({"width": 10**9}, UserError, "width=1000000000 must be a whole number from 0 to 8192"),
        ({"height": -8}, UserError, "height=-8 must be a whole number from 0 to 8192"),
        ({"height": 1.5}, UserError, "height=1.5 must be a whole number"),
        ({"target_size": (512, 512)}, TypeError, "target_size: not an option here; height and width are the size"),
        ({"latents": np.zeros(3)}, TypeError, "latents: not an option here; the noise comes from seed"),
        ({"prompt_embeds": np.zeros(3)}, TypeError, "prompt_embeds: not an option here; the text encoder reads prompt"),
        (
            {"timesteps": [999, 500]},
            TypeError,
            "timesteps: .*steps says how many timesteps are visited, and grid which",
        ),
        ({"callback": print, "callback_steps": 1}, TypeError, "callback: not an option here; on_step is called after"),
        ({"cross_attention_kwargs": {"scale": 1}}, TypeError, "cross_attention_kwargs: .*pipe.attention_maps"),
        ({"clip_skip": 2}, TypeError, "clip_skip: not an option here"),
        ({"ip_adapter_image": PICTURE}, TypeError, "ip_adapter_image: .*image is the image to begin from"),
        ({"denoising_end": 0.8}, TypeError, "denoising_end: .*strength says how many of the steps are run"),
        ({"scheduler": "EulerAncestralDiscreteScheduler"}, UserError, "sampler='EulerAnc.*' must be one of ddpm, ddim"),
        (
            {"generator": [1, 2]},
            UserError,
            "generator must be one torch.Generator, but is a list; seed=7 does the same",
        ),
        ({"output_type": "latent"}, UserError, "output_type='latent' must be one of pil, np"),
        ({"mask_image": MASK}, UserError, "mask is for an image to begin from; give one with image="),
        ({"strength": 0.5}, UserError, "strength is for an image to begin from; give one with image="),
        ({"num_inference_steps": 3, "steps": 4}, TypeError, "steps is given as well, and both mean the same"),
        ({"num_inference_step": 3}, TypeError, "there is no option 'num_inference_step'"),
        ({"style": "cubism"}, UserError, "style='cubism' is not known; choose from "),
    ],
)
def test_a_call_raises_one_sentence(
    options: dict[str, Any], error: type[Exception], sentence: str, pipe: Pipeline
) -> None:
    with pytest.raises(error, match=sentence) as caught:
        pipe(prompt="a cat", **options)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 320


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("to", "JAX_PLATFORMS=cpu and load"),
        ("scheduler", "sampler='dpmpp_2m'"),
        ("enable_model_cpu_offload", "mode='streamed'"),
        ("save_pretrained", "export writes a checkpoint"),
        ("anything", "a pipeline has no 'anything'$"),
    ],
)
def test_an_attribute_of_other_pipelines_names_ours(name: str, remedy: str, pipe: Pipeline) -> None:
    assert not hasattr(pipe, name)
    with pytest.raises(AttributeError, match=remedy):
        getattr(pipe, name)


def test_the_callback_sees_every_step_and_cannot_replace_latents(pipe: Pipeline) -> None:
    seen: list[tuple[int, int]] = []

    def watch(of: Pipeline, step: int, timestep: int, kwargs: dict[str, Any]) -> dict[str, Any]:
        assert of is pipe and isinstance(kwargs["progress"], Progress) and len(kwargs["progress"].images()) == 1
        seen.append((step, timestep))
        return kwargs

    pipe("a cat", num_inference_steps=3, callback_on_step_end=watch)
    assert seen == [(0, 999), (1, 666), (2, 333)]
    for wrong in (lambda pipe, step, t, kwargs: kwargs["latents"], lambda *_: {"latents": 0}):
        with pytest.raises(UserError, match="callback_on_step_end"):
            pipe("a cat", callback_on_step_end=wrong)


def test_a_drawn_seed_is_told_and_is_another_each_time(pipe: Pipeline, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ernie_vilg_jax"):
        seeds = [pipe("a cat", seed=None).seed for _ in range(3)]
    assert len(set(seeds)) == 3
    assert caplog.messages == [f"seed={seed}, drawn at random" for seed in seeds]
    assert pipe("a cat").seed == 0, "left out, it is the checkpoint's"


def test_scale_0_is_unconditional_and_says_so_and_1_is_not_guided(
    pipe: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    pipe("a cat", guidance_scale=1)
    assert not caplog.messages and asked(pipe).guidance.numbers(pipe.stages).scale is None
    pipe("a cat", guidance_scale=0)
    assert "guidance_scale=0 makes unconditional images" in caplog.text
    assert asked(pipe).guidance.numbers(pipe.stages).scale == 0


def test_styles_and_translations_reach_the_prompt_and_the_metadata(pipe: Pipeline) -> None:
    translate = {"ein Bär": "a bear", "rouge é": "red"}.get
    made = pipe(
        ["ein Bär", "一只猫"], num_images=2, candidates=1, style="油画", negative_prompt="rouge é",
        translate=lambda text: translate(text, text),
    )  # fmt: skip
    assert [one.info["prompt"] for one in made] == ["a bear, oil painting"] * 2 + ["一只猫，油画"] * 2
    assert [one.info.get("translated_from") for one in made] == ["ein Bär"] * 2 + [None] * 2
    assert asked(pipe).negative == ("red",)
