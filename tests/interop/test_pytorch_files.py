"""Files of torch.save read without torch: formats, dtypes, views; and what is refused."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.interop import pytorch_files
from ernie_vilg_jax.interop.safetensors_files import Tensors


def read(path: Path) -> Tensors:
    return pytorch_files.open_weights(path, "the weights")


FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def state() -> dict[str, torch.Tensor]:
    """Each dtype, a transposed view, a slice, a number, nothing, a parameter, and two views of one storage."""
    torch.manual_seed(0)
    base = torch.randn(4, 6)
    tensors = {str(dtype): torch.randn(3, 2).to(dtype) for dtype in (torch.float64, torch.float16, torch.bfloat16)}
    tensors |= {str(dtype): torch.arange(5).to(dtype) for dtype in (torch.int64, torch.int16, torch.uint8, torch.bool)}
    views = {"base": base, "transposed": base.t(), "slice": base[1:3, 2:], "column": base[:, 3]}
    return {**tensors, **views, "number": torch.tensor(7.5), "empty": torch.zeros(0, 3), "p": torch.nn.Parameter(base)}


@FORMATS
def test_it_reads_what_torch_wrote(tmp_path: Path, zipped: bool) -> None:
    tensors = state()
    torch.save(tensors, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    found = read(tmp_path / "a.pth")
    assert found.shapes == {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found.read(name), tensor.detach().float().numpy(), err_msg=name)


@FORMATS
def test_a_module_s_state_dict(tmp_path: Path, zipped: bool) -> None:
    """It is an OrderedDict with an attribute of its own."""
    module: Any = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 1), torch.nn.BatchNorm2d(3))
    torch.save(module.state_dict(), tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    found = read(tmp_path / "a.pt")
    assert found.shapes["1.num_batches_tracked"] == ()
    np.testing.assert_array_equal(found.read("0.weight"), module[0].weight.detach().numpy())


class Harmful:
    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('code of the file was run')",)


@FORMATS
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": Harmful()}, r"it uses __builtin__\.exec, and only tensors are read"),
        (torch.nn.Linear(1, 1), r"it uses torch\.nn\.modules\.linear\.Linear, and only tensors are read"),
        ({"state_dict": {"a": torch.zeros(1)}}, "it does not hold named tensors alone"),
        ([torch.zeros(1)], "it does not hold named tensors alone"),
    ],
)
def test_anything_but_tensors_is_refused(tmp_path: Path, zipped: bool, content: Any, message: str) -> None:
    file = tmp_path / "a.pth"
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=rf"{file} is not a file of named tensors .*\({message}\): give the weights"):
        read(file)


@FORMATS
def test_half_a_file_is_one_sentence(tmp_path: Path, zipped: bool) -> None:
    torch.save(state(), tmp_path / "whole.pth", _use_new_zipfile_serialization=zipped)
    data = (tmp_path / "whole.pth").read_bytes()
    for share in (0.0, 0.1, 0.5, 0.9, 0.99):
        (tmp_path / "half.pth").write_bytes(data[: int(share * len(data))])
        with pytest.raises(UserError, match=r"half\.pth is not a file of named tensors"):
            read(tmp_path / "half.pth")


def test_a_storage_that_is_too_short(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(100)}, tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as old, zipfile.ZipFile(tmp_path / "b.pth", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name)[: 40 if name.endswith("data/0") else None])
    with pytest.raises(UserError, match=r"b\.pth is damaged: storage 0 is incomplete"):
        read(tmp_path / "b.pth").read("a")


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [(0, (5,), (1,)), (1, (4,), (1,)), (-1, (2,), (1,)), (0, (2, 2), (3, 1)), (0, (2,), (-1,)), (4, (), ())],
)
def test_no_tensor_reaches_beyond_its_storage(offset: int, shape: Any, strides: Any) -> None:
    """Its numbers would be of other memory."""
    storage = pytorch_files._Storage("0", np.dtype(np.float32), 4)
    with pytest.raises(ValueError, match="beyond its storage"):
        pytorch_files._Tensor(storage, offset, shape, strides).checked()
    pytorch_files._Tensor(storage, 0, (2, 2), (2, 1)).checked()


def test_a_folder_from_before_safetensors(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "pytorch_model.bin")
    np.testing.assert_array_equal(read(tmp_path).read("a"), [1, 1])
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors")
    np.testing.assert_array_equal(read(tmp_path).read("a"), [0, 0])


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.pth does not exist: give the weights"):
        read(tmp_path / "a.pth")
    (tmp_path / "a.txt").write_bytes(b"")
    with pytest.raises(UserError, match=r"a\.txt is not a file of weights \(\.safetensors, .*\): give the weights"):
        read(tmp_path / "a.txt")
    (tmp_path / "a.pth").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(UserError, match=r"it does not begin as one"):
        read(tmp_path / "a.pth")
