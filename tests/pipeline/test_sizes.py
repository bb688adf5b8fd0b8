"""Images of other sizes than the default: what is made, told, and refused."""

import logging
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from ernie_vilg_jax.data.sizes import Size, Sizes
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.images import to_uint8
from ernie_vilg_jax.pipeline import Pipeline
from tests.random_model import make_pipe

PROMPT = "红色的圆形"
TRAINED = ((16, 16), (16, 24), (24, 16))


@pytest.fixture(scope="module")
def shapes() -> Pipeline:
    """A model that was trained on TRAINED."""
    return make_pipe(sizes=TRAINED)


def painted(shapes: Pipeline, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Makes its images black without a program; returns the list that gets each request, with its given latents."""
    asked: list[Any] = []

    def run(request: Any, rows: np.ndarray, words: Any, negative: Any, given: Any, **how: Any) -> np.ndarray:
        asked.append((request, given))
        return np.full((*rows.shape, *request.size, 3), -1.0)

    monkeypatch.setitem(shapes.__dict__, "runner", run)
    run.model = shapes.model
    run.encode = lambda image: np.zeros(shapes.model.latent_shape_of(*image.shape[:2]))
    return asked


def test_a_wide_image_is_a_loop_of_the_unet_over_latents_of_its_shape(shapes: Pipeline) -> None:
    """DDIM without guidance, written out, and the image's own noise."""
    made = shapes([PROMPT, "a blue square"], height=16, width=24, guidance_scale=1, seed=3)
    assert [one.size for one in made] == [(24, 16)] * 2
    model, params, schedule = shapes.model, shapes.params, shapes.model.schedule
    words: Any = (leaf[None] for leaf in shapes.tokenizer.encode("a blue square")[:2])
    text = model.encode_text(params.text_encoder, *words)
    factor = model.autoencoder.downsampling
    x = np.asarray(jax.random.normal(jax.random.fold_in(jax.random.key(3), 1), (16 // factor, 24 // factor, 4)))[None]
    predict = jax.jit(model.unet.apply)
    for t, after in ((999, 666), (666, 333), (333, None)):
        epsilon = np.asarray(predict({"params": params.experts[shapes.stages.stage_of(t)]}, x, np.array([t]), *text))
        x = (x - schedule.sigmas[t] * epsilon) / schedule.alphas[t]
        if after is not None:
            x = schedule.alphas[after] * x + schedule.sigmas[after] * epsilon
    expected = to_uint8(jax.jit(model.decode)(params.autoencoder, x.astype(np.float32))[0])
    assert np.abs(np.asarray(made[1], int) - expected).max() <= 1
    again = shapes.again(made[1])
    assert again.info == made[1].info and np.abs(np.asarray(again, int) - expected).max() <= 1


def test_a_size_is_left_to_the_model_or_to_the_image(shapes: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = painted(shapes, monkeypatch)
    wide, tall = Image.new("RGB", (90, 60)), Image.new("RGB", (600, 901))
    turned = Image.new("RGB", (90, 60))
    turned.getexif()[0x0112] = 6  # a quarter turn
    cases: tuple[tuple[dict[str, Any], tuple[int, int]], ...] = (
        ({}, (16, 16)),
        ({"height": 24}, (24, 16)),
        ({"width": 24}, (16, 24)),
        ({"image": wide}, (16, 24)),
        ({"image": tall}, (24, 16)),
        ({"image": turned}, (24, 16)),
        ({"image": wide, "height": 24, "width": 16}, (24, 16)),
        ({"image": wide, "mask": Image.new("L", wide.size, 255)}, (16, 24)),
    )
    for given, expected in cases:
        made = shapes(PROMPT, **given)[0]
        request, latents = asked.pop()
        assert request.size == expected and made.size == (expected[1], expected[0]), given
        assert (made.info["height"], made.info["width"]) == expected
        if "image" in given:
            side = shapes.fitted(given["image"], **{name: given.get(name, 0) for name in ("height", "width")}).size
            assert side == made.size
        if "mask" in given:
            assert latents.known.where.shape[1:3] == shapes.model.latent_shape_of(*expected)[:2]
        again = shapes.again(made, image=given.get("image"), mask=given.get("mask"))
        assert again.info == made.info and again.size == made.size


def test_one_size_is_not_told_and_others_are_with_a_warning(
    shapes: Pipeline, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    painted(shapes, monkeypatch)
    monkeypatch.setattr(shapes, "sizes", Sizes((Size(16, 16),), 4))
    assert not {"height", "width"} & shapes(PROMPT, height=16, width=16)[0].info.keys()
    with caplog.at_level(logging.WARNING):
        shapes(PROMPT, height=16)
        assert not caplog.messages
        made = shapes(PROMPT, height=40)[0]
    assert (made.size, made.info["height"], made.info["width"]) == ((16, 40), 40, 16)
    assert caplog.messages == [
        "height=40, width=16: the model was trained on images of 16x16; those of another size are often worse"
    ]


@pytest.mark.parametrize(
    ("side", "near"), [(1, "8 is"), (7, "8 is"), (9, "8 and 16 are"), (1020, "1016 and 1024 are"), (8, ""), (1024, "")]
)
@pytest.mark.parametrize("name", ["height", "width"])
def test_a_side_that_cannot_be_divided_names_the_nearest(name: str, side: int, near: str) -> None:
    sizes, given = Sizes((Size(64, 64),), 8), {"height": 0, "width": 0, name: side}
    if not near:
        assert getattr(sizes.choose(given["height"], given["width"]), name) == side
        return
    with pytest.raises(UserError, match=rf"^{name}={side} must be a multiple of 8 \(.*\): {near} the nearest$"):
        sizes.choose(given["height"], given["width"])
