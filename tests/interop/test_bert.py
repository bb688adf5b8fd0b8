"""Supported and refused fields of BERT's config.json; old names and heads; the round trip, bit for bit."""

from typing import Any

import jax
import numpy as np
import pytest

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.interop import bert
from ernie_vilg_jax.interop.safetensors_files import Tensors

FIELDS = {
    **{"width": 8, "num_layers": 2, "num_heads": 2, "norm": "post", "activation": "gelu", "mlp_width": 0},
    "norm_epsilon": 1e-12,
}
VOCABULARY, LENGTH = 10, 6
ACTIVATIONS = ("relu", "gelu_tanh", "quick_gelu")


def encoder(fields: dict[str, Any] = FIELDS) -> Any:
    rng = np.random.default_rng(0)
    shapes = bert.abstract(fields, VOCABULARY, LENGTH)
    return jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32), shapes)


def in_memory(arrays: dict[str, np.ndarray]) -> Tensors:
    return Tensors("folder", {name: array.shape for name, array in arrays.items()}, arrays.__getitem__)


def written() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    return bert.write(FIELDS, encoder(), VOCABULARY, LENGTH, 0)


def read(config: dict[str, Any], arrays: dict[str, np.ndarray], words: int = VOCABULARY, length: int = LENGTH) -> Any:
    return bert.read(config, in_memory(arrays), words, length)


def assert_equal(one: Any, other: Any) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize(
    "changes",
    [{}, {"mlp_width": 20}, {"activation": "relu"}, {"activation": "gelu_tanh"}, {"activation": "quick_gelu"}],
)
def test_there_and_back_is_exact(changes: dict[str, Any]) -> None:
    fields = {**FIELDS, **changes}
    params = encoder(fields)
    found, back = read(*bert.write(fields, params, VOCABULARY, LENGTH, 0))
    assert found == fields
    assert_equal(params, back)


def test_prefixes_heads_and_old_names() -> None:
    config, arrays = written()
    params = read(config, arrays)[1]
    old = {
        f"bert.{name}".replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): array
        for name, array in arrays.items()
    }
    heads = ("bert.pooler.dense.weight", "cls.predictions.bias", "bert.embeddings.position_ids")
    old |= {name: np.zeros(3, np.int64) for name in heads}
    assert_equal(read(config, old)[1], params)


def test_segment_and_task_0_are_part_of_the_positions() -> None:
    config, arrays = written()
    rng = np.random.default_rng(1)
    segments, tasks = (rng.standard_normal((3, 8)).astype(np.float32) for _ in range(2))
    plain = read(config, arrays)[1]["positions"]
    both = {**arrays, bert.SEGMENTS: segments, bert.TASKS: tasks}
    positions = read({**config, "model_type": "ernie", "use_task_id": True}, both)[1]["positions"]
    np.testing.assert_allclose(positions, plain + segments[0] + tasks[0], rtol=1e-6)
    with pytest.raises(UserError, match=r"task_type_embeddings\.weight, which it should not have"):
        read(config, both)
    with pytest.raises(UserError, match=r"it lacks embeddings\.task_type_embeddings\.weight"):
        read({**config, "use_task_id": True}, arrays)


def test_words_and_positions_that_are_not_needed_are_left_out() -> None:
    config, arrays = written()
    params = read(config, arrays)[1]
    fewer = read(config, arrays, words=7, length=4)[1]
    np.testing.assert_array_equal(fewer["tokens"]["embedding"], params["tokens"]["embedding"][:7])
    np.testing.assert_array_equal(fewer["positions"], params["positions"][:4])
    with pytest.raises(UserError, match=r"word_embeddings\.weight has 10 rows, too few for a vocabulary of 11"):
        read(config, arrays, words=11)
    with pytest.raises(UserError, match=r"position_embeddings\.weight has 6 rows, too few for a --max_length of 77"):
        read(config, arrays, length=77)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "roberta"}, "model_type='roberta', but this text encoder supports only 'bert' or 'ernie'"),
        ({"hidden_act": "silu"}, "hidden_act='silu'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type='relative_key'"),
        ({"is_decoder": True}, "is_decoder=True"),
        ({"num_attention_heads": 3}, "does not describe a text encoder"),
        ({"num_hidden_layers": 3}, "it lacks encoder.layer.2.attention.* and 13 more"),
        ({"num_hidden_layers": 1}, "it has encoder.layer.1.attention.* which it should not have"),
        ({"intermediate_size": 16}, r"intermediate.dense.bias is \[32\], but should be \[16\]"),
    ],
)
def test_unsupported_fields_are_named(changes: dict[str, Any], message: str) -> None:
    config, arrays = written()
    with pytest.raises(UserError, match=message):
        read({**config, **changes}, arrays)


def test_a_config_of_something_else() -> None:
    with pytest.raises(UserError, match=r"its config\.json has no model_type"):
        read({"_class_name": "AutoencoderKL"}, {})


def test_pre_normalised_encoders_are_not_berts() -> None:
    with pytest.raises(UserError, match="norm='pre' has no counterpart in BertModel"):
        bert.write({**FIELDS, "norm": "pre"}, {}, VOCABULARY, LENGTH, 0)


def test_activations_that_bert_lacks() -> None:
    with pytest.raises(UserError, match="activation='swiglu' has no counterpart in BertModel"):
        bert.write({**FIELDS, "activation": "swiglu"}, {}, VOCABULARY, LENGTH, 0)
