"""Requests to a pipeline: their images, compilation, and errors."""

import logging
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from ernie_vilg_jax.diffusion.samplers import SAMPLERS
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.images import to_uint8
from ernie_vilg_jax.models.attention import plain_attention
from ernie_vilg_jax.pipeline import Pipeline, Progress
from ernie_vilg_jax.pipeline import pipeline as asking
from ernie_vilg_jax.pipeline import runner as running
from ernie_vilg_jax.sharding import splash_attention
from tests.random_model import make_pipe

PROMPTS = ["红色的圆形", "a blue square", "一个绿色的三角形"]


def arrays(images: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(image) for image in images]).astype(int)


def furthest(left: Any, right: Any) -> int:
    """The largest difference of two lists of images, in levels of 256."""
    return int(np.abs(arrays(left) - arrays(right)).max())


def test_images_of_each_prompt_in_order(pipe: Pipeline) -> None:
    images = pipe(PROMPTS, num_images=2, seed=5)
    assert len(images) == 6
    assert {(image.size, image.mode) for image in images} == {((16, 16), "RGB")}
    assert len({image.tobytes() for image in images}) == 6
    assert [image.info["prompt"] for image in images] == [prompt for prompt in PROMPTS for _ in range(2)]


def test_the_seed_decides_and_the_batch_does_not(pipe: Pipeline) -> None:
    together = pipe(PROMPTS, seed=1)
    assert furthest(together, pipe(PROMPTS, seed=1)) == 0
    # Another batch size is another program: the last bit of fp32 may differ, so may one level in 256.
    assert furthest(pipe(PROMPTS[0], seed=1), together[:1]) <= 1
    assert furthest(together, pipe(PROMPTS, seed=2)) > 10


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler(pipe: Pipeline, sampler: str) -> None:
    picture = pipe(PROMPTS[:1], sampler=sampler)
    assert picture[0].info["sampler"] == sampler
    other = np.mean(arrays(picture) != arrays(pipe(PROMPTS[:1])))
    assert other < 0.01 if sampler in ("ddim", "euler") else other > 0.05, "these two are one map, the others are not"


def test_fresh_noise_does_not_depend_on_the_batch(pipe: Pipeline) -> None:
    together = pipe(PROMPTS, sampler="ddpm")
    assert furthest(pipe(PROMPTS[:1], sampler="ddpm"), together[:1]) <= 1


def test_another_grid(pipe: Pipeline) -> None:
    picture = pipe(PROMPTS[0], grid="karras")
    assert picture[0].info["grid"] == "karras"
    assert np.mean(arrays(picture) != arrays(pipe(PROMPTS[0]))) > 0.05
    assert furthest(pipe(PROMPTS[0], grid="trailing"), pipe(PROMPTS[0])) == 0, "ddim's own"


def test_more_prompts_than_a_batch(pipe: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pipe(PROMPTS)
    monkeypatch.setattr(asking, "BATCH_SIZES", (1, 2))
    several, seen = pipe(PROMPTS), []
    assert furthest(several, whole) <= 1
    stepped = pipe(PROMPTS, on_step=lambda progress: seen.append((progress.step, progress.steps, progress.images())))
    assert furthest(stepped, several) == 0
    assert [step[:2] for step in seen] == [(step, 6) for step in range(1, 7)]
    assert [len(step[2]) for step in seen] == [2, 2, 2, 1, 1, 1]


# ---- guidance and negative prompts ---------------------------------------------------------------------------------


def by_hand(pipe: Pipeline, prompt: str, negative: str, scale: float) -> Image.Image:
    """DDIM with guidance, written out: image number 0 of seed 0, in three steps."""
    model, params = pipe.model, pipe.params
    predict, read, decode = jax.jit(model.prediction), jax.jit(model.encode_text), jax.jit(model.decode)
    texts = [[leaf[None] for leaf in pipe.tokenizer.encode(text)[:2]] for text in (prompt, negative)]
    wanted, unwanted = (read(params.text_encoder, *words) for words in texts)
    x = np.asarray(jax.random.normal(jax.random.fold_in(jax.random.key(0), 0), model.latent_shape))[None]
    for t, after in ((999, 666), (666, 333), (333, None)):
        expert = params.experts[pipe.stages.stage_of(t)]
        with_text, without = (np.asarray(predict(expert, x, np.array([t]), text)) for text in (wanted, unwanted))
        epsilon = without + scale * (with_text - without)
        x = (x - model.schedule.sigmas[t] * epsilon) / model.schedule.alphas[t]
        if after is not None:
            x = model.schedule.alphas[after] * x + model.schedule.sigmas[after] * epsilon
    return Image.fromarray(to_uint8(decode(params.autoencoder, x.astype(np.float32))[0]))


def test_negative_prompt_stands_in_for_the_empty_one(pipe: Pipeline, streamed: Pipeline) -> None:
    for negative in ("", "三角形"):
        expected = by_hand(pipe, PROMPTS[0], negative, 4.0)
        for each in (pipe, streamed):
            made = each(PROMPTS[0], negative_prompt=negative, guidance_scale=4.0)
            assert furthest(made, [expected]) <= 1
            assert made[0].info.get("negative_prompt", "") == negative
    assert furthest([expected], pipe(PROMPTS[0], guidance_scale=4.0)) > 3


def test_a_negative_prompt_for_each(pipe: Pipeline, streamed: Pipeline) -> None:
    negative = ["三角形", "", "blue"]
    expected = [by_hand(pipe, PROMPTS[0], "三角形", 4.0)]
    for each in (pipe, streamed):
        made = each(PROMPTS, negative_prompt=negative, guidance_scale=4.0, num_images=2)
        assert furthest(made[:1], expected) <= 1
        assert [image.info.get("negative_prompt") for image in made] == ["三角形"] * 2 + [None] * 2 + ["blue"] * 2
        one = each(PROMPTS, negative_prompt="三角形", guidance_scale=4.0, num_images=2)
        assert furthest(made[:2], one[:2]) <= 1
        assert furthest(made[2:], one[2:]) > 3


def test_negative_prompt_without_guidance_has_no_effect_and_warns(
    pipe: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    plain = pipe(PROMPTS[0], guidance_scale=1.0)
    assert not caplog.records
    assert furthest(pipe(PROMPTS[0], guidance_scale=1, negative_prompt="三角形"), plain) == 0
    assert "negative_prompt does nothing at guidance_scale 1" in caplog.text


def test_guidance_changes_the_image_and_1_is_the_conditional_model(pipe: Pipeline) -> None:
    plain = pipe(PROMPTS, guidance_scale=1.0)
    assert furthest(plain, pipe(PROMPTS, guidance_scale=1.0 + 1e-6)) <= 1
    guided = pipe(PROMPTS, guidance_scale=8.0)
    assert furthest(plain, guided) > 3
    assert furthest(pipe(PROMPTS, stage_scales=(8.0, 8.0)), guided) <= 1
    assert furthest(pipe(PROMPTS, guidance_scale=8.0, guidance_interval=(0, 1000)), guided) <= 1
    changes: Any = {"guidance_rescale": 0.7, "guidance_interval": [0, 500], "dynamic_threshold": 90.0}
    for name, value in changes.items():
        changed = pipe(PROMPTS, guidance_scale=8.0, **{name: value})
        assert furthest(changed, guided) > 0
        assert changed[0].info[name] == value


# ---- compiling -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "way"),
    [
        *(("resident", way) for way in ("text", "watched", "image", "inpaint", "attention")),
        *(("streamed", way) for way in ("watched", "inpaint")),
    ],
)
def test_a_second_call_compiles_nothing(
    request: pytest.FixtureRequest, own_programs: None, compiled: Callable[[], Any], mode: str, way: str
) -> None:
    """Of other prompts, seeds, scales, negative prompts, images, masks, strengths, steps and grids."""
    pipe = request.getfixturevalue("pipe" if mode == "resident" else "streamed")
    rng = np.random.default_rng(0)

    def ask(prompt: str, scale: float, seed: int, strength: float, steps: int, grid: str) -> None:
        options: Any = {"guidance_scale": scale, "seed": seed, "negative_prompt": prompt[::-1], "sampler": "unipc"}
        options |= {"order": 3, "steps": steps, "grid": grid}
        picture = Image.fromarray(rng.integers(0, 255, (20, 16, 3), np.uint8))
        mask = Image.new("L", picture.size)
        mask.paste(255, (seed, 8, 16, 16))
        if way == "text":
            pipe(prompt, **options)
        elif way == "watched":
            pipe(prompt, on_step=lambda progress: progress.images(), **options)
        elif way == "image":
            pipe.image_to_image(prompt, picture, strength=strength, **options)
        elif way == "inpaint":
            pipe.inpaint(prompt, picture, mask, strength=strength, **options)
        else:
            pipe.attention_maps(prompt, prompt[-2:], **options)

    with compiled() as programs:
        ask(PROMPTS[0], 2.0, 0, 0.5, 3, "")
    assert programs, "the first call must compile something, or this proves nothing"
    with compiled() as programs:
        ask(PROMPTS[2], 5.0, 9, 0.8, 4, "karras")
    assert programs == []


def test_compiling_is_announced_before_and_measured_after(pipe: Pipeline, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ernie_vilg_jax"):
        pipe(PROMPTS, sampler="heun")
        before, after = caplog.messages
        assert before == "compiling for 4 images of 16x16 with heun"
        assert after.startswith("compiling took ") and float(after.split()[2]) > 0
        caplog.clear()
        pipe(PROMPTS[::-1], sampler="heun", steps=5, seed=3)
        assert not caplog.messages


def test_the_program_unused_for_longest_is_dropped(
    own_programs: None, compiled: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(running, "MOST_PROGRAMS", 2)
    pipe = make_pipe()
    for sampler in ("ddim", "euler", "ddim", "dpmpp_2m"):
        pipe(PROMPTS[0], sampler=sampler)
    with compiled() as programs:
        pipe(PROMPTS[0], sampler="ddim")
    assert programs == []
    with compiled() as programs, caplog.at_level(logging.INFO, "ernie_vilg_jax"):
        pipe(PROMPTS[0], sampler="euler")
    assert programs and "compiling for 1 image of 16x16 with euler" in caplog.text


# ---- watching ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["resident", "streamed"])
def test_on_step_sees_every_step_in_order_and_changes_nothing(request: pytest.FixtureRequest, mode: str) -> None:
    pipe = request.getfixturevalue("pipe" if mode == "resident" else "streamed")
    seen: list[Progress] = []
    watched = pipe(PROMPTS, steps=5, seed=2, on_step=seen.append)
    assert furthest(watched, pipe(PROMPTS, steps=5, seed=2)) == 0
    assert [(progress.step, progress.steps) for progress in seen] == [(step, 5) for step in range(1, 6)]
    assert [progress.timestep for progress in seen] == [999, 799, 599, 399, 199]
    assert [progress.stage for progress in seen] == pipe.stages.stage_of(np.array([999, 799, 599, 399, 199])).tolist()
    # The last estimate is what comes out, and the first is not.
    assert furthest(seen[-1].images(), watched) == 0
    assert furthest(seen[0].images(), watched) > 3
    assert len(seen[0].images()) == 3, "the fourth of the batch is a filler"


def test_on_step_on_a_mesh_and_not_pipelined(pipe: Pipeline) -> None:
    seen: list[list[Image.Image]] = []
    meshed = make_pipe("resident", data=2)
    made = meshed(PROMPTS, on_step=lambda progress: seen.append(progress.images()))
    assert furthest(made, pipe(PROMPTS)) <= 1
    assert [len(images) for images in seen] == [3, 3, 3]
    pipelined = make_pipe("pipelined", expert=2)
    for ask in (lambda: pipelined(PROMPTS, on_step=print), lambda: pipelined.attention_maps(PROMPTS[0], "圆形")):
        with pytest.raises(UserError, match="on_step and attention maps are not offered in the pipelined mode"):
            ask()


@pytest.mark.parametrize(
    ("mode", "axes"),
    [
        ("resident", {"data": 2}),
        pytest.param("streamed", {"fsdp": 2}, marks=pytest.mark.proofs),
        pytest.param("pipelined", {"expert": 2}, marks=pytest.mark.proofs),
    ],
)
def test_attention_can_tell_which_mesh_it_runs_on(monkeypatch: pytest.MonkeyPatch, mode: str, axes: Any) -> None:
    """The compiler cannot partition the TPU kernel: each device must call it on its share (splash_attention.py)."""
    seen: list[dict[str, int]] = []

    def plain(*inputs: jax.Array) -> jax.Array:
        seen.append({axis: size for axis, size in jax.sharding.get_abstract_mesh().shape.items() if size > 1})
        return plain_attention(*inputs)

    monkeypatch.setattr(splash_attention, "plain_attention", plain)
    pipe = make_pipe(mode, **axes)
    seen.clear()  # of its shapes
    pipe(PROMPTS[:2])
    if mode != "pipelined":
        pipe(PROMPTS[:2], on_step=lambda progress: None)
    assert seen and all(mesh == axes for mesh in seen)


def test_an_exception_in_on_step_ends_the_call(pipe: Pipeline) -> None:
    seen: list[int] = []

    def stop(progress: Progress) -> None:
        seen.append(progress.step)
        if progress.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipe(PROMPTS, steps=5, on_step=stop)
    assert seen == [1, 2]
    assert len(pipe(PROMPTS, steps=5, on_step=lambda progress: None)) == 3


# ---- invalid requests ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompts": "  "}, "prompt: one is empty"),
        ({"prompts": ["猫", ""]}, "prompt: one is empty"),
        ({"prompts": []}, "prompt: there is none"),
        ({"prompts": 7}, "prompt must be a string or a list of strings, but holds a int: 7"),
        ({"prompts": ["猫", None]}, "prompt must be a string or a list of strings, but holds a NoneType"),
        ({"num_images": 0}, "num_images=0 must be a whole number from 1 up"),
        ({"num_images": "two"}, "num_images='two' must be a whole number"),
        ({"num_images": 1.5}, "num_images=1.5 must be a whole number"),
        ({"num_images": True}, "num_images=True must be a whole number"),
        ({"num_images": 1001}, "1001 images, and one call makes at most 1000; ask for fewer"),
        ({"prompts": ["猫", "狗"], "num_images": 600}, "num_images=600 of 2 prompts are 1200 images"),
        ({"seed": None, "steps": 0}, "steps=0 must be a whole number from 1 up"),
        ({"steps": 1001}, "steps=1001 must be a whole number from 1 to 1000"),
        ({"seed": "now"}, "seed='now' must be a whole number"),
        ({"seed": float("inf")}, "seed=inf must be a whole number"),
        ({"guidance_scale": float("nan")}, "guidance_scale=nan must be a number"),
        ({"guidance_scale": "high"}, "guidance_scale='high' must be a number"),
        ({"guidance_scale": -1.0}, "guidance_scale=-1.0 must be a number from 0 up"),
        ({"guidance_rescale": 2.0}, "guidance_rescale=2.0 must be a number from 0 to 1"),
        ({"guidance_interval": (900, 200)}, r"guidance_interval: \(900, 200\) must be two timesteps, the lower first"),
        ({"guidance_interval": (200, 2000)}, r"guidance_interval: \(200, 2000\) must end at 1000"),
        ({"guidance_interval": 200}, "guidance_interval=200 must be numbers, such as"),
        ({"dynamic_threshold": 101.0}, "dynamic_threshold=101.0 must be a number from 0 to 100"),
        ({"stage_scales": (2.0,)}, "stage_scales: 1 scales were given, but the model has 2 stages"),
        ({"stage_scales": "2,3"}, "stage_scales='2,3' must be numbers"),
        ({"stage_scales": (2.0, -3.0)}, r"stage_scales=\(2.0, -3.0\) must be a number from 0 up"),
        ({"guidance_scale": 10**400}, "guidance_scale=10+ must be a number from 0 up"),
        ({"sampler": "magic"}, "sampler='magic' must be one of ddpm, ddim, euler, heun, dpmpp_2m, unipc"),
        ({"grid": "cubic"}, "grid='cubic' must be one of trailing, leading"),
        ({"negative_prompt": ["a", "b", "c"]}, "negative_prompt: 3 were given for 1 prompts; give one for all, or one"),
        ({"negative_prompt": 3}, "negative_prompt must be a string or a list of strings"),
        ({"prompts": "a\ud83d cat"}, r"prompt: 'a\\ud83d cat' is not text, for it holds half of a character"),
        ({"prompts": ["a", "b\0"]}, r"prompt: 'b\\x00' is not text, for it holds a NUL"),
        ({"negative_prompt": "\udcff"}, r"negative_prompt: '\\udcff' is not text"),
    ],
)
def test_impossible_requests_say_why(pipe: Pipeline, arguments: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"prompts": "猫", **arguments}
    with pytest.raises(UserError, match=message):
        pipe(**given)


def test_an_unknown_option_is_named_with_its_neighbour(pipe: Pipeline) -> None:
    with pytest.raises(TypeError, match="there is no option 'step'; did you mean steps"):
        pipe("猫", step=3)


def test_numbers_of_sliders_and_of_numpy_will_do(pipe: Pipeline) -> None:
    plain = pipe(PROMPTS[0], steps=3, seed=-1, guidance_scale=2)
    made = pipe(PROMPTS[0], num_images=np.int64(1), steps=3.0, seed=2**32 - 1, guidance_scale=np.float32(2))
    assert furthest(plain, made) == 0


def test_over_long_prompt_is_cut_with_one_warning_that_says_where(
    pipe: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(pipe("红色的圆形" * 20 + "尾巴", num_images=3)) == 3
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "longer than 16 tokens; the model does not see" in warning and "尾巴" in warning
