"""Weights in PyTorch's own format (.pth, .pt, .bin), read with NumPy alone.

A file holds a pickle of named tensors and, separately, the bytes of their storages. A pickle can run any code; this
reader allows only the names that a dict of tensors needs, and refuses the rest.

    zip, since torch 1.6      NAME/data.pkl, NAME/data/KEY for each storage
    before, "legacy"          pickles of a magic number, the protocol and the machine, then the dict, then the keys of
                              the storages, then for each its length (int64) and its bytes

Format: https://github.com/pytorch/pytorch/blob/main/torch/serialization.py
"""

import collections
import io
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax.numpy as jnp
import numpy as np

from ernie_vilg_jax.errors import UserError, file_errors, first_line
from ernie_vilg_jax.interop import safetensors_files
from ernie_vilg_jax.interop.safetensors_files import PICKLES, Tensors
from ernie_vilg_jax.paths import local

MAGIC = 0x1950A86A20F9469CFC6C
FILE = "pytorch_model.bin"
"""Weights in a folder of transformers, from before safetensors."""
STORAGES: Mapping[str, Any] = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": jnp.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype
    size: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def checked(self) -> "_Tensor":
        """Itself. Raises ValueError if it reaches beyond its storage."""
        numbers = (self.offset, *self.shape, *self.strides)
        last = self.offset + sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))
        if min(numbers) < 0 or (0 not in self.shape and last >= self.storage.size):
            raise ValueError("a tensor reaches beyond its storage")
        return self

    def of(self, numbers: np.ndarray) -> np.ndarray:
        strides = [stride * numbers.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, strides, writeable=False)


class _Unpickler(pickle.Unpickler):
    """Reads dicts of tensors; raises UnpicklingError for anything else."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in STORAGES:
            return np.dtype(STORAGES[name])
        allowed = {
            "collections.OrderedDict": collections.OrderedDict,
            "torch._utils._rebuild_tensor_v2": lambda *args: _Tensor(*args[:4]).checked(),
            "torch._utils._rebuild_parameter": lambda data, *_: data,
        }
        if f"{module}.{name}" not in allowed:
            raise pickle.UnpicklingError(f"it uses {module}.{name}, and only tensors are read")
        return allowed[f"{module}.{name}"]

    def persistent_load(self, pid: Any) -> _Storage:
        _, dtype, key, _, size = pid[:5]
        return _Storage(str(key), dtype, int(size))


def open_weights(source: str | Path, what: str) -> Tensors:
    """All tensors of a file (.safetensors, .pth, .pt, .bin), or of a folder of transformers.

    Reads only the names and shapes; the rest is read on request. `what` says in messages what was expected. Raises
    UserError if there is none, if a file is damaged, or if it holds anything but tensors.
    """
    path = local(source, "path")
    if not path.exists():
        raise UserError(f"{path} does not exist: give {what}")
    if path.is_file() and path.suffix not in (".safetensors", *PICKLES):
        raise UserError(f"{path} is not a file of weights (.safetensors, {', '.join(PICKLES)}): give {what}")
    if path.is_dir() and (path / FILE).is_file() and not any(path.glob("*.safetensors*")):
        path = path / FILE
    if path.suffix not in PICKLES or path.is_dir():
        return safetensors_files.open_tensors(source)
    with file_errors(path):
        try:
            found, load = _zipped(path) if zipfile.is_zipfile(path) else _legacy(path)
            if not isinstance(found, dict) or not all(isinstance(tensor, _Tensor) for tensor in found.values()):
                raise ValueError("it does not hold named tensors alone")
        except OSError:
            raise
        except Exception as error:  # of pickle: almost any type, as its bytes may say anything
            raise UserError(
                f"{path} is not a file of named tensors (a state dict) that torch.save wrote ({first_line(error)}): "
                f"give {what}"
            ) from error
    tensors: dict[str, _Tensor] = {str(name): tensor for name, tensor in found.items()}

    def read(name: str) -> np.ndarray:
        with file_errors(path):
            return tensors[name].of(load(tensors[name].storage))

    return Tensors(str(path), {name: tuple(tensor.shape) for name, tensor in tensors.items()}, read)


def _zipped(path: Path) -> tuple[Any, Callable[[_Storage], np.ndarray]]:
    archive = zipfile.ZipFile(path)  # open as long as `load` is in use, as its index is slow to read
    root = next(name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith("/data.pkl"))
    found = _Unpickler(io.BytesIO(archive.read(f"{root}data.pkl"))).load()
    return found, lambda storage: _numbers(path, archive.read(f"{root}data/{storage.key}"), storage)


def _legacy(path: Path) -> tuple[Any, Callable[[_Storage], np.ndarray]]:
    places: dict[str, int] = {}
    used: dict[str, _Storage] = {}

    class Reader(_Unpickler):
        def persistent_load(self, pid: Any) -> _Storage:
            return used.setdefault(str(pid[2]), super().persistent_load(pid))

    with path.open("rb") as file:
        if _Unpickler(file).load() != MAGIC:
            raise ValueError("it does not begin as one")
        for _ in ("protocol", "machine"):
            _Unpickler(file).load()
        found = Reader(file).load()
        for key in _Unpickler(file).load():
            (size,) = struct.unpack("<q", file.read(8))
            places[str(key)] = file.tell()
            file.seek(size * used[str(key)].dtype.itemsize, io.SEEK_CUR)
        _check_end(file)

    def load(storage: _Storage) -> np.ndarray:
        with path.open("rb") as file:
            file.seek(places[storage.key])
            return _numbers(path, file.read(storage.size * storage.dtype.itemsize), storage)

    return found, load


def _check_end(file: BinaryIO) -> None:
    if file.tell() > file.seek(0, io.SEEK_END):
        raise ValueError("its end is missing")


def _numbers(path: Path, data: bytes, storage: _Storage) -> np.ndarray:
    if len(data) < storage.size * storage.dtype.itemsize:
        raise UserError(f"{path} is damaged: storage {storage.key} is incomplete; get another copy of it")
    return np.frombuffer(data, storage.dtype, storage.size)
