"""Shapes of parameters without making them."""

import jax
import pytest

from configs.demo import get_config
from ernie_vilg_jax.model import build_model

CHANGES = {
    "as it is": {},
    "wider U-Net": {"model.unet.base_channels": 16},
    "more words": {"tokenizer.vocab_size": 600},
    "larger images": {"model.image_size": 32},
    "other latents": {"model.autoencoder.latent_channels": 8},
    "other attention": {"model.attention_kernel_from": 4},
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("part", ["autoencoder", "text_encoder", "unet"])
def test_kept_shapes_are_those_of_new_parameters(part: str, changes: dict[str, int]) -> None:
    config = get_config("base,smoke")
    config.update_from_flattened_dict(changes)
    model = build_model(config)
    expected = jax.eval_shape(getattr(model, f"init_{part}"), jax.random.key(0))
    for _ in range(2):
        found = getattr(model, f"abstract_{part}")()
        assert (found["params"] if part == "autoencoder" else found) == expected
        found.clear()  # what a caller does with them changes nothing


def test_equal_models_have_equal_modules() -> None:
    one, other = (build_model(get_config("base,smoke")) for _ in range(2))
    assert (one.unet, one.text_encoder, one.autoencoder) == (other.unet, other.text_encoder, other.autoencoder)
