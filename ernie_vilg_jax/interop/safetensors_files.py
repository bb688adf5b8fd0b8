"""Folders of weights as diffusers and transformers write them, read one tensor at a time.

    config.json                                 sizes of the network
    diffusion_pytorch_model.safetensors         its tensors; transformers calls it model.safetensors
    ….safetensors.index.json                    if they are in several files: tensor -> file
    ….fp16.safetensors, ….index.fp16.json       a variant, such as one in half precision

Format: https://github.com/huggingface/safetensors
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from etils import epath
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ernie_vilg_jax.errors import UserError, file_error, file_errors, first_line
from ernie_vilg_jax.paths import local, plain_name, replacing

_INDEX = re.compile(r"(?P<name>.+)\.safetensors\.index(?P<variant>\.\w+)?\.json")
_SHARD = re.compile(r"(?P<name>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.safetensors")
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

    def only(self, wanted: Callable[[str], bool]) -> "Tensors":
        """Those whose names are `wanted`."""
        return self._replace(shapes={name: shape for name, shape in self.shapes.items() if wanted(name)})

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
    """The files of a file, an index, or the one set of weights in a folder; of several, that without a variant."""
    if source.is_file():
        if _INDEX.fullmatch(source.name):
            return _whole(source)
        if source.suffix != ".safetensors":
            raise UserError(f"{source} is not a .safetensors file; {_convert(source)}")
        return [source]
    if not source.is_dir():
        raise UserError(f"{source}: there is no such file or folder")
    found = _sets(source)
    usual = [name for name in FILES if name in found]
    if usual or len(found) == 1:
        return _whole(found[usual[0] if usual else next(iter(found))])
    if found:
        names = ", ".join(one.name if isinstance(one, Path) else one[0].name for one in found.values())
        raise UserError(f"{source} holds {names}: name one file, with --config_json={source}/config.json")
    if inner := _parts(source):
        raise UserError(f"{source} has no safetensors file, but its folders {', '.join(inner)} do: name one of them")
    raise UserError(f"{source} has no safetensors file; {_convert(source)}")


def _sets(folder: Path) -> dict[str, Path | list[Path]]:
    """The sets of weights in a folder: name of the one file that it is, or would be -> its index, or its files."""
    shards: dict[str, list[Path]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        found = _SHARD.fullmatch(file.name)
        name = f"{found['name']}.safetensors" if found else file.name
        shards.setdefault(name, []).append(file)
    sets: dict[str, Path | list[Path]] = {**shards}
    for file in sorted(folder.iterdir()):
        if found := _INDEX.fullmatch(file.name):
            sets[f"{found['name']}{found['variant'] or ''}.safetensors"] = file
    return sets


def _whole(files: Path | list[Path]) -> list[Path]:
    """The files of an index, or of a set without one. Raises UserError if any is missing."""
    if isinstance(files, Path):
        return _files_of_index(files)
    if found := _SHARD.fullmatch(files[0].name):
        count = int(found["count"])
        names = [f"{found['name']}-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]
        _check_there(files[0].parent, names, "")
    return files


def _files_of_index(index: Path) -> list[Path]:
    try:
        names = sorted({plain_name(name, str(index)) for name in json.loads(index.read_text())["weight_map"].values()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{index} is not an index of safetensors files; get another copy of it") from error
    _check_there(index.parent, names, f", which {index.name} lists")
    return [index.parent / name for name in names]


def _check_there(folder: Path, names: Sequence[str], why: str) -> None:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise UserError(f"{folder} lacks {', '.join(missing[:3])}{more}{why}: get the missing files")


def _parts(folder: Path) -> list[str]:
    """The folders of the parts, if it is that of a whole pipeline of diffusers."""
    inner = sorted(one for one in folder.iterdir() if one.is_dir())
    return [one.name for one in inner if any(one.glob("*.safetensors"))]


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
        if not config_json and source.is_dir() and (parts := _parts(source)):
            raise UserError(
                f"{source} is a whole pipeline, and its parts have folders of their own: name one of "
                f"{', '.join(str(source / part) for part in parts)}"
            )
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
