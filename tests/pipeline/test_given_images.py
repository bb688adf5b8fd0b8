"""Images and masks of users, and the results."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from ernie_vilg_jax import images as images_module
from ernie_vilg_jax.diffusion.samplers import SAMPLERS
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.pipeline import Pipeline
from tests.random_model import make_pipe

PROMPT = "红色的圆形"
RNG = np.random.default_rng(0)


def noisy(*shape: int) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, shape, np.uint8))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


# ---- reading -------------------------------------------------------------------------------------------------------


def test_an_image_of_the_right_size_is_unchanged() -> None:
    image = noisy(16, 16, 3)
    np.testing.assert_array_equal(pixels(images_module.fitted(image, 16, 16)), pixels(image))


def test_the_central_square_is_taken() -> None:
    image = Image.new("RGB", (48, 16), "red")
    image.paste("blue", (16, 0, 32, 16))
    assert images_module.fitted(image, 16, 16).getcolors() == [(256, (0, 0, 255))]
    tall = pixels(images_module.fitted(image.transpose(Image.Transpose.ROTATE_90), 8, 8))
    assert np.abs(tall - (0, 0, 255)).max() < 20, "a little of the red may bleed in where the picture is made smaller"


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "YCbCr", "HSV", "I;16"])
def test_any_mode_becomes_rgb(mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.full((8, 8), 65535, np.uint16))
    else:
        image = Image.new("RGB", (8, 8), "white").convert(mode)
    assert images_module.fitted(image, 4, 4).getcolors() == [(16, (255, 255, 255))]


def test_transparency_lies_on_white_and_exif_turns() -> None:
    assert images_module.fitted(Image.new("RGBA", (4, 4), (255, 0, 0, 0)), 4, 4).getcolors() == [(16, (255, 255, 255))]
    image = Image.new("RGB", (8, 8), "red")
    image.paste("blue", (0, 0, 8, 4))
    image.getexif()[0x0112] = 3  # upside down
    assert images_module.fitted(image, 8, 8).getpixel((0, 0)) == (255, 0, 0)


def test_cells_are_known_where_all_their_pixels_are() -> None:
    mask = np.zeros((8, 8), np.float32)
    mask[3, 3], mask[0, 7] = 1.0, 0.4
    np.testing.assert_array_equal(images_module.known_cells(mask, 4), [[0, 1], [1, 1]])


def test_paste_keeps_black_pixels_exactly_and_softens_inwards() -> None:
    known, made = noisy(256, 256, 3), noisy(256, 256, 3)
    mask = np.zeros((256, 256), np.float32)
    mask[64:192, 64:192] = 1.0
    pasted = pixels(images_module.paste(known, made, mask))
    np.testing.assert_array_equal(pasted[mask == 0], pixels(known)[mask == 0])
    np.testing.assert_array_equal(pasted[80:176, 80:176], pixels(made)[80:176, 80:176])
    assert np.any(pasted[64, 64:192] != pixels(made)[64, 64:192]), "the edge is mixed"


# ---- image to image ------------------------------------------------------------------------------------------------


def reconstruction(pipe: Pipeline, image: Image.Image) -> np.ndarray:
    latents = pipe.runner.encode(images_module.to_array(pipe.fitted(image)))
    images = pipe.model.decode(pipe.params.autoencoder, latents[None])
    return (np.asarray(images[0]) + 1) * 127.5


def test_low_strength_keeps_the_image_and_full_strength_nothing_of_it(pipe: Pipeline) -> None:
    image = Image.fromarray(np.kron(RNG.integers(0, 256, (4, 4, 3)), np.ones((8, 8, 1))).astype(np.uint8))
    little, some = (pipe.image_to_image(PROMPT, image, strength=s, steps=1000)[0] for s in (0.001, 0.01))
    expected = reconstruction(pipe, image)
    distances = [np.abs(pixels(one) - expected).mean() for one in (little, some, pipe(PROMPT, steps=3)[0])]
    assert distances[0] < 0.7 < 2 * distances[0] < distances[1] < distances[2]
    all_of_it = pipe.image_to_image([PROMPT], image, strength=1, steps=3, seed=4)
    np.testing.assert_array_equal(pixels(all_of_it[0]), pixels(pipe(PROMPT, steps=3, seed=4)[0]))
    assert little.info["strength"] == 0.001 and "strength" not in all_of_it[0].info


def test_strength_is_a_share_of_the_steps_and_noise_differs(pipe: Pipeline) -> None:
    image, seen = noisy(16, 16, 3), []
    made = pipe.image_to_image(PROMPT, image, strength=0.5, steps=8, num_images=2, on_step=seen.append)
    assert [progress.timestep for progress in seen] == [499, 374, 249, 124]
    assert seen[-1].steps == 4
    assert np.abs(pixels(made[0]) - pixels(made[1])).max() > 0


# ---- inpainting ----------------------------------------------------------------------------------------------------


def half(size: tuple[int, int] = (16, 16)) -> Image.Image:
    """White on the right."""
    mask = Image.new("L", size)
    mask.paste(255, (size[0] // 2, 0, *size))
    return mask


@pytest.fixture(scope="module")
def attentive() -> Pipeline:
    return make_pipe(attention=(1,))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_inpainting_keeps_black_pixels_and_repaints_the_rest(attentive: Pipeline, sampler: str) -> None:
    pipe, image = attentive, noisy(16, 16, 3)
    made = pixels(pipe.inpaint(PROMPT, image, half(), sampler=sampler)[0])
    np.testing.assert_array_equal(made[:, :8], pixels(image)[:, :8])
    assert np.abs(made[:, 9:] - pixels(image)[:, 9:]).mean() > 10
    assert np.abs(made - pixels(pipe.inpaint(PROMPT, image, half(), sampler=sampler, seed=1)[0]))[:, 9:].max() > 3


def test_the_known_part_affects_the_latents_and_its_surroundings(attentive: Pipeline) -> None:
    """Not only pasted over: the estimate is the reconstruction there at every step, and the rest depends on it."""
    pipe, image, seen = attentive, noisy(16, 16, 3), []
    made = pipe.inpaint(PROMPT, image, half(), on_step=seen.append)[0]
    previews = [pixels(progress.images()[0]) for progress in seen]
    for preview in previews[1:]:
        # The corner is far enough from the unknown half for the decoder not to mix.
        assert np.abs(preview[:, :2] - previews[0][:, :2]).max() <= 3
        assert np.abs(preview[:, 8:] - previews[0][:, 8:]).max() > 3
    other = pipe.inpaint(PROMPT, noisy(16, 16, 3), half())[0]
    assert np.any(pixels(made)[:, 10:] != pixels(other)[:, 10:]), "the same program, so that a level counts"


@pytest.mark.parametrize(
    "mode", ["streamed", *(pytest.param(mode, marks=pytest.mark.proofs) for mode in ("pipelined", "on a mesh"))]
)
def test_inpainting_in_every_mode(pipe: Pipeline, streamed: Pipeline, mode: str) -> None:
    """With strength, a size of its own, and a negative prompt for each image, half of them empty."""
    made = {"streamed": lambda: streamed, "pipelined": lambda: make_pipe("pipelined", expert=2)}
    image, other = noisy(24, 32, 3), made.get(mode, lambda: make_pipe("resident", data=2))()
    options: Any = {
        "strength": 0.7,
        "negative_prompt": ["三角形", ""],
        "sampler": "ddpm",
        "num_images": 2,
        "height": 24,
    }
    prompts, mask = [PROMPT, "a blue square"], half((32, 24))
    expected, got = (each.inpaint(prompts, image, mask, **options) for each in (pipe, other))
    for one, another in zip(expected, got, strict=True):
        assert np.abs(pixels(one) - pixels(another)).max() <= 1
        np.testing.assert_array_equal(pixels(one)[:, :8], pixels(pipe.fitted(image, height=24))[:, :8])
        np.testing.assert_array_equal(pixels(one)[:, :8], pixels(image)[:, 8:16])
        assert one.info == another.info and (one.info["strength"], one.info["height"], one.info["width"]) == (
            0.7,
            24,
            16,
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": "cat.png"}, r"the image must be a PIL image, but is a str; open files with PIL.Image.open"),
        ({"image": np.zeros((8, 8, 3), np.uint8)}, "the image must be a PIL image, but is a ndarray"),
        ({"image": Image.new("RGB", (0, 5))}, r"the image has no pixels \(0x5\)"),
        ({"mask": None}, "the mask must be a PIL image, but is a NoneType"),
        ({"mask": half((8, 8))}, "the mask is 8x8 pixels and the image 16x16: they must be of one size"),
        (
            {"mask": Image.new("L", (16, 16))},
            "the mask has no white in the middle of the picture, of which 16x16 pixels",
        ),
        ({"mask": Image.new("L", (16, 16), 90)}, "the mask has no white"),
        ({"strength": 0}, "strength=0 must be a number above 0"),
        ({"strength": 1.5}, "strength=1.5 must be a number above 0"),
        ({"strength": float("nan")}, "strength=nan must be"),
        ({"strength": "much"}, "strength='much' must be"),
    ],
)
def test_invalid_images_are_refused(pipe: Pipeline, arguments: dict[str, Any], message: str) -> None:
    given = {"image": noisy(16, 16, 3), "mask": half(), **arguments}
    with pytest.raises(UserError, match=message):
        pipe.inpaint(PROMPT, **given)
    if "mask" not in arguments:
        with pytest.raises(UserError, match=message):
            pipe.image_to_image(PROMPT, given["image"], strength=given.get("strength", 0.5))


def test_a_damaged_file_is_one_sentence(pipe: Pipeline, tmp_path: Any) -> None:
    noisy(64, 64, 3).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"the image cannot be read: it is damaged \(.*\)"):
        pipe.image_to_image(PROMPT, Image.open(tmp_path / "b.png"))


def test_masks_of_other_modes() -> None:
    image = Image.new("RGB", (16, 16))
    for mode in ("1", "L", "RGB", "RGBA"):
        share = images_module.fitted_mask(half().convert(mode), image, 16, 16)
        np.testing.assert_array_equal(share, np.asarray(half(), np.float32) / 255)
    ghost = Image.new("RGBA", (16, 16), (255, 255, 255, 0))
    ghost.paste((255, 255, 255, 255), (8, 0, 16, 16))
    np.testing.assert_array_equal(images_module.fitted_mask(ghost, image, 16, 16), np.asarray(half(), np.float32) / 255)
