"""A network from another one of other sizes: the tensors taken, those initialised, and the report."""

from typing import Any

import numpy as np

from ernie_vilg_jax.interop import unet_2d, warm_start
from ernie_vilg_jax.interop.safetensors_files import Tensors

FRESH: dict[str, Any] = {
    "conv_in": {"kernel": np.zeros((3, 3, 4, 8), np.float32), "bias": np.zeros(8, np.float32)},
    "mid_attn": {"qkv": {"kernel": np.zeros((8, 24), np.float32)}},
    "pooled": {"kernel": np.zeros((5, 32), np.float32)},
}


def test_same_shapes_are_taken_and_the_rest_stays() -> None:
    rng = np.random.default_rng(0)
    other = {
        "conv_in": {"kernel": rng.standard_normal((3, 3, 4, 8)), "bias": rng.standard_normal(16)},
        "mid_attn": {"qkv": {"kernel": rng.standard_normal((8, 24))}},
        "conv_out": {"bias": rng.standard_normal(4)},
    }
    tensors = warm_start.as_tensors("runs/other", other)
    params, report = warm_start.fit(FRESH, lambda path: (path,), tensors, lambda path, shape: "")
    np.testing.assert_array_equal(params["conv_in"]["kernel"], other["conv_in"]["kernel"].astype(np.float32))
    np.testing.assert_array_equal(params["mid_attn"]["qkv"]["kernel"], other["mid_attn"]["qkv"]["kernel"].astype("f4"))
    np.testing.assert_array_equal(params["conv_in"]["bias"], FRESH["conv_in"]["bias"])
    assert {row.path: row.reason for row in report.rows} == {
        "conv_in/kernel": "",
        "conv_in/bias": "conv_in/bias is [16], but [8] is needed",
        "mid_attn/qkv/kernel": "",
        "pooled/kernel": "there is no pooled/kernel",
    }
    assert report.unused == ("conv_in/bias", "conv_out/bias")
    # 288 + 192 of 288 + 8 + 192 + 160 numbers.
    assert report.summary().startswith("2 of 4 tensors taken (0.0M of 0.0M numbers, 74.1%)")
    assert report.summary().endswith("2 of their 4 are not used")


def test_the_table_has_the_origin_of_every_tensor() -> None:
    shapes = {"conv_in.weight": (8, 4, 3, 3), "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight": (8, 8)}
    tensors = Tensors("unet", shapes, lambda name: np.ones(shapes[name], np.float32))
    _, report = warm_start.fit(FRESH, unet_2d.names(1), tensors, unet_2d.reason(1, tensors))
    header, *lines = report.table().splitlines()
    assert header.split() == ["tensor", "shape", "taken", "from,", "or", "why", "not"]
    found = {line.split()[0]: line for line in lines}
    assert found["conv_in/kernel"].split(maxsplit=1)[1] == "3 x 3 x 4 x 8       conv_in.weight"
    assert found["conv_in/bias"].endswith("- there is no conv_in.bias")
    assert "- separate attentions for image and text there, a joint one here" in found["mid_attn/qkv/kernel"]
    assert found["pooled/kernel"].endswith("- they have no such tensor")
    assert report.unused == ("mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight",)
