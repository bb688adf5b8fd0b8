"""Files of weights: single, sharded, in half precision, and damaged in many ways."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from etils import epath
from safetensors.numpy import save_file

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.interop.safetensors_files import open_tensors, read_config, write_folder
from tests.disks import Disk

ARRAYS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3) / 7, "b.bias": np.array([1.5, -2], np.float32)}


def test_files_read_back_bit_for_bit(tmp_path: Path) -> None:
    write_folder(epath.Path(tmp_path / "new"), {"x": 1}, {name: array.T for name, array in ARRAYS.items()})
    assert read_config(tmp_path / "new") == {"x": 1}
    tensors = open_tensors(tmp_path / "new")
    assert tensors.shapes == {"a.weight": (3, 2), "b.bias": (2,)}
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(tensors.read(name), array.T)
    renamed = tensors.renamed(lambda name: f"model.{name}")
    np.testing.assert_array_equal(renamed.read("model.b.bias"), ARRAYS["b.bias"])


def test_writing_replaces_existing_files(tmp_path: Path) -> None:
    write_folder(epath.Path(tmp_path / "new"), {}, ARRAYS, "model.safetensors")
    write_folder(epath.Path(tmp_path / "new"), {}, {"c": np.zeros(1)})
    assert list(open_tensors(tmp_path / "new").shapes) == ["c"]


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float64])
def test_other_precisions_become_fp32(dtype: Any, tmp_path: Path) -> None:
    array = ARRAYS["a.weight"].astype(dtype)
    save_file({"a": array}, tmp_path / "x.safetensors")
    read = open_tensors(tmp_path / "x.safetensors").read("a")
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, array.astype(np.float32))


def cut_in_two(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    places = {name: f"model-{i:05d}-of-00002.safetensors" for i, name in enumerate(ARRAYS, start=1)}
    for name, file in places.items():
        save_file({name: ARRAYS[name]}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def test_weights_cut_into_several_files(tmp_path: Path) -> None:
    cut_in_two(tmp_path)
    tensors = open_tensors(tmp_path)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(tensors.read(name), array)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(
        UserError, match=r"lacks model-00002-of-00002\.safetensors, which model\.safetensors\.index\.json"
    ):
        open_tensors(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(UserError, match="is not an index of safetensors files"):
        open_tensors(tmp_path)


INDEXES = ("{}.fp16.safetensors.index.json", "{}.safetensors.index.fp16.json")
"""Names of an index of a variant, which stands before or after "index"."""


def cut_variant(folder: Path, stem: str, index: str | None, variant: str = ".fp16") -> None:
    places = {name: f"{stem}{variant}-{i:05d}-of-00002.safetensors" for i, name in enumerate(ARRAYS, start=1)}
    for name, file in places.items():
        save_file({name: ARRAYS[name].astype(np.float16 if variant else np.float32)}, folder / file)
    if index:
        (folder / index.format(stem)).write_text(json.dumps({"weight_map": places}))


@pytest.mark.parametrize("index", [*INDEXES, None])
@pytest.mark.parametrize("stem", ["model", "diffusion_pytorch_model"])
def test_variants_cut_into_several_files(stem: str, index: str | None, tmp_path: Path) -> None:
    cut_variant(tmp_path, stem, index)
    sources = [tmp_path, *([tmp_path / index.format(stem)] if index else [])]
    for source in sources:
        tensors = open_tensors(source)
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(tensors.read(name), array.astype(np.float16).astype(np.float32))
    (tmp_path / f"{stem}.fp16-00001-of-00002.safetensors").unlink()
    lists = f", which {index.format(stem)} lists" if index else ""
    with pytest.raises(UserError, match=rf"lacks {stem}\.fp16-00001-of-00002\.safetensors{lists}: get the missing"):
        open_tensors(tmp_path)


@pytest.mark.parametrize("index", [*INDEXES, None])
@pytest.mark.parametrize("whole", [True, False])
def test_full_precision_is_read_rather_than_a_variant(whole: bool, index: str | None, tmp_path: Path) -> None:
    cut_variant(tmp_path, "model", index)
    if whole:
        save_file(ARRAYS, tmp_path / "model.safetensors")
    else:
        cut_variant(tmp_path, "model", "{}.safetensors.index.json", variant="")
    np.testing.assert_array_equal(open_tensors(tmp_path).read("a.weight"), ARRAYS["a.weight"])


def test_of_several_variants_one_must_be_named(tmp_path: Path) -> None:
    cut_variant(tmp_path, "model", INDEXES[1])
    save_file(ARRAYS, tmp_path / "model.bf16.safetensors")
    with pytest.raises(
        UserError, match=r"holds model\.bf16\.safetensors, model\.safetensors\.index\.fp16\.json: name one"
    ):
        open_tensors(tmp_path)
    assert set(open_tensors(tmp_path / "model.safetensors.index.fp16.json").shapes) == set(ARRAYS)


@pytest.mark.parametrize("size", ["10GB", "2KB"], ids=["one file", "several"])
@pytest.mark.parametrize("variant", [None, "fp16"])
def test_what_diffusers_writes_is_read(variant: str | None, size: str, tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    model = diffusers.AutoencoderKL(block_out_channels=(4,), norm_num_groups=2, latent_channels=2, sample_size=8)
    model.save_pretrained(tmp_path, variant=variant, max_shard_size=size)
    tensors = open_tensors(tmp_path)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (size == "2KB")
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(tensors.read(name), value.numpy())


@pytest.mark.parametrize("parts", [("vae",), ("text_encoder", "unet", "vae")])
def test_the_folder_of_a_pipeline_names_its_parts(parts: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "model_index.json").write_text("{}")
    for part in parts:
        (tmp_path / part).mkdir()
        cut_variant(tmp_path / part, "diffusion_pytorch_model", INDEXES[0])
        (tmp_path / part / "config.json").write_text("{}")
    named = ", ".join(str(tmp_path / part) for part in parts)
    with pytest.raises(UserError, match=f"{tmp_path} is a whole pipeline, .*: name one of {named}$"):
        read_config(tmp_path)
    with pytest.raises(UserError, match=f"but its folders {', '.join(parts)} do: name one of them"):
        open_tensors(tmp_path)


@pytest.mark.parametrize("name", ["/etc/passwd", "../x.safetensors", "a/b.safetensors", "a\\b", "..", "", 3, None])
def test_an_index_names_files_beside_it_only(name: Any, tmp_path: Path) -> None:
    cut_in_two(tmp_path / "in")
    save_file({"b.bias": ARRAYS["b.bias"]}, tmp_path / "x.safetensors")
    index = tmp_path / "in/model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a.weight": "model-00001-of-00002.safetensors", "b.bias": name}}))
    with pytest.raises(
        UserError, match=r"index\.json names the file .*, which is not the plain name of a file beside it"
    ):
        open_tensors(tmp_path / "in")


def test_existing_files_are_kept_when_the_disk_is_full(disk: Callable[[int], Disk]) -> None:
    folder = disk(200).path / "weights"
    write_folder(epath.Path(folder), {"x": 1}, ARRAYS)
    for _ in range(2):
        with pytest.raises(UserError, match=r"weights: no space left on device; free some space there"):
            write_folder(epath.Path(folder), {"x": 2}, {"c": np.zeros(60_000)})
    assert read_config(folder) == {"x": 1} and len(list(folder.iterdir())) == 2
    np.testing.assert_array_equal(open_tensors(folder).read("b.bias"), ARRAYS["b.bias"])


def whole(folder: Path) -> bytes:
    save_file(ARRAYS, folder / "whole")
    return (folder / "whole").read_bytes()


@pytest.mark.parametrize(
    "damage",
    [lambda b: b[:-5], lambda b: b[:20], lambda b: b"", lambda b: b + b"x", lambda b: b"\xff" * len(b)],
    ids=["cut short", "cut in its header", "empty", "too long", "noise"],
)
def test_damaged_files_are_named(damage: Any, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(damage(whole(tmp_path)))
    with pytest.raises(UserError, match=r"x\.safetensors is damaged, or not a safetensors file \(.*\); get"):
        open_tensors(tmp_path / "x.safetensors")


def test_tensors_that_cannot_be_read(tmp_path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}).encode()
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"ab")
    with pytest.raises(UserError, match="tensor w is of dtype F8_E4M3, but only F64, F32, F16, BF16 can be read"):
        open_tensors(tmp_path / "x.safetensors").read("w")
    save_file({"w": np.array([1, np.nan], np.float32)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="tensor w has NaN or infinite numbers"):
        open_tensors(tmp_path / "x.safetensors").read("w")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), "has no safetensors file; give the folder that save_pretrained"),
        (("pytorch_model.bin",), "pytorch_model.bin is in PyTorch's own format: .* save_pretrained"),
        (("vae/x.safetensors", "unet/x.safetensors"), "no safetensors file, but its folders unet, vae do: name one"),
        (("a.safetensors", "b.safetensors"), "holds a.safetensors, b.safetensors: name one file"),
    ],
)
def test_folders_without_weights(files: tuple[str, ...], message: str, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match=message):
        open_tensors(tmp_path)


def test_missing_files_and_files_without_weights(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: there is no such file or folder"):
        open_tensors(tmp_path / "nowhere")
    (tmp_path / "model.ckpt").write_bytes(b"")
    with pytest.raises(UserError, match=r"model.ckpt is not a \.safetensors file; model.ckpt is in PyTorch's own"):
        open_tensors(tmp_path / "model.ckpt")


def test_configs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json is missing, which says .*--config_json=FILE"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json is not JSON"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(UserError, match="is not the config of a network"):
        read_config(tmp_path / "x.safetensors")
    (tmp_path / "other.json").write_text('{"a": 1}')
    assert read_config(tmp_path, tmp_path / "other.json") == {"a": 1}
