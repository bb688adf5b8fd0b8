"""Folders of weights as diffusers and transformers write them, read one tensor at a time.

    config.json                                 sizes of the network
    diffusion_pytorch_model.safetensors         its tensors; transformers calls it model.safetensors
    ….safetensors.index.json                    if they are in several files: tensor -> file

Format: https://github.com/huggingface/safetensors
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from etils import epath
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ernie_vilg_jax.errors import UserError, file_error, file_errors, first_line
from ernie_vilg_jax.paths import local, plain_name, replacing

FILES = ("diffusion_pytorch_model.safetensors", "model.safetensors")
READABLE = ("F64", "F32", "F16", "BF16")
PICKLES = (".bin", ".pt", ".pth", ".ckpt")


class Tensors(NamedTuple):
    """Named arrays, each read on request."""

    origin: str
    """File or folder that they come from, for messages."""
    shapes: Mapping[str, tuple[int, ...]]
    load: Callable[[str], np.ndarray]

    def read(self, name: str) -> np.ndarray:
        """The array in fp32. Raises UserError if it has NaN or infinite numbers."""
        array = np.asarray(self.load(name), np.float32)
        if not np.isfinite(array).all():
            raise UserError(f"{self.origin}: tensor {name} has NaN or infinite numbers; get another copy of it")
        return array

    def renamed(self, rename: Callable[[str], str]) -> "Tensors":
        """The same arrays under other names."""
        old = {rename(name): name for name in self.shapes}
        shapes = {name: self.shapes[old[name]] for name in old}
        return Tensors(self.origin, shapes, lambda name: self.load(old[name]))


def open_tensors(source: str | Path) -> Tensors:
    """All tensors of a .safetensors file, or of a folder with one file, or with several and an index.

    Raises UserError if there is none, or if a file is damaged. Reads only the headers.
    """
    files = _files(local(source, "source"))
    opened: dict[str, Any] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        try:
            handle = safe_open(file, framework="np")
            for name in handle.keys():  # noqa: SIM118 (not a dict)
                opened[name] = handle
                shapes[name] = tuple(handle.get_slice(name).get_shape())
        except (SafetensorError, OSError) as error:
            raise file_error(error, file) or UserError(
                f"{file} is damaged, or not a safetensors file ({first_line(error)}); get another copy of it"
            ) from error

    def load(name: str) -> np.ndarray:
        kind = opened[name].get_slice(name).get_dtype()
        if kind not in READABLE:
            raise UserError(f"{source}: tensor {name} is of dtype {kind}, but only {', '.join(READABLE)} can be read")
        return opened[name].get_tensor(name)

    numbers = sum(int(np.prod(shape)) for shape in shapes.values())
    logging.info("%s: %d tensors, %.1fM numbers", source, len(shapes), numbers / 1e6)
    return Tensors(str(source), shapes, load)


def _files(source: Path) -> list[Path]:
    if source.is_file():
        if source.suffix != ".safetensors":
            raise UserError(f"{source} is not a .safetensors file; {_convert(source)}")
        return [source]
    if not source.is_dir():
        raise UserError(f"{source}: there is no such file or folder")
    for name in FILES:
        index = source / f"{name}.index.json"
        if index.is_file():
            return _files_of_index(index)
        if (source / name).is_file():
            return [source / name]
    found = sorted(source.glob("*.safetensors"))
    if len(found) == 1:
        return found
    if found:
        names = ", ".join(file.name for file in found)
        raise UserError(f"{source} holds {names}: name one file, with --config_json={source}/config.json")
    inner = sorted(folder.name for folder in source.iterdir() if any(folder.glob("*.safetensors")))
    if inner:
        raise UserError(f"{source} has no safetensors file, but its folders {', '.join(inner)} do: name one of them")
    raise UserError(f"{source} has no safetensors file; {_convert(source)}")


def _files_of_index(index: Path) -> list[Path]:
    try:
        names = sorted({plain_name(name, str(index)) for name in json.loads(index.read_text())["weight_map"].values()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{index} is not an index of safetensors files; get another copy of it") from error
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise UserError(f"{index.parent} lacks {', '.join(missing)}, which {index.name} lists: get the missing files")
    return [index.parent / name for name in names]


def _convert(source: Path) -> str:
    pickles = [source] if source.is_file() else [path for path in sorted(source.iterdir()) if path.suffix in PICKLES]
    if pickles and pickles[0].suffix in PICKLES:
        return (
            f"{pickles[0].name} is in PyTorch's own format: on a machine with torch, load it with diffusers or "
            "transformers and write it again with save_pretrained(FOLDER)"
        )
    return "give the folder that save_pretrained of diffusers or transformers wrote"


def read_config(source: str | Path, config_json: str | Path | None = None) -> dict[str, Any]:
    """The config.json of a folder, or beside a file, or `config_json`. Raises UserError if it cannot be read as one."""
    source = local(source, "source")
    file = Path(config_json) if config_json else (source if source.is_dir() else source.parent) / "config.json"
    if not file.is_file():
        raise UserError(f"{file} is missing, which says how the network was built: name it with --config_json=FILE")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is not JSON ({error})") from error
    if not isinstance(config, dict):
        raise UserError(f"{file} is not the config of a network: it is not a JSON object")
    return config


def write_folder(
    folder: epath.Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    name: str = FILES[0],
    more: Mapping[str, bytes] | None = None,
) -> int:
    """Replaces a folder by config.json, one file with all tensors, and `more` files.

    Returns the size of the tensors' file in bytes.
    """
    # transformers refuses files without this metadata.
    content = save({key: np.ascontiguousarray(array) for key, array in tensors.items()}, metadata={"format": "pt"})
    with replacing(folder) as fresh, file_errors(folder):
        fresh.mkdir(parents=True, exist_ok=True)
        (fresh / "config.json").write_text(json.dumps(dict(config), indent=2) + "\n")
        (fresh / name).write_bytes(content)
        for file, data in (more or {}).items():
            (fresh / file).write_bytes(data)
    return len(content)
