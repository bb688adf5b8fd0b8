"""Collectives in the text of a compiled program: the arrays they move, and between which devices."""

import dataclasses
import itertools
import re
from collections.abc import Iterable

import numpy as np

Shapes = tuple[tuple[str, tuple[int, ...]], ...]
"""(dtype, sizes) of arrays."""

_BYTES = {
    **dict.fromkeys(("pred", "s4", "u4", "s8", "u8", "f8e4m3fn", "f8e5m2"), 1),
    **dict.fromkeys(("s16", "u16", "bf16", "f16"), 2),
    **dict.fromkeys(("s32", "u32", "f32"), 4),
    **dict.fromkeys(("s64", "u64", "f64"), 8),
}
KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute", "ragged-all-to-all")
_SHAPE = re.compile(r"\b(\w+)\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective operation: `trips` times, `groups` of devices (positions in the mesh, in order) exchange `shapes`.

    `shapes` has all its arrays on one device, because the compiler combines many into one operation: its operands or
    its results, whichever are larger. So an all-gather counts its results, a reduce-scatter its operands.
    """

    kind: str
    trips: int
    shapes: Shapes
    groups: tuple[tuple[int, ...], ...]

    @property
    def bytes(self) -> int:
        """Bytes of all its arrays, on one device, once."""
        return bytes_of(self.shapes)

    def crosses(self, mesh_shape: Iterable[int], axis: int) -> bool:
        """Whether a group spans several positions along that axis of the mesh."""
        places = np.arange(int(np.prod(tuple(mesh_shape)))).reshape(tuple(mesh_shape))
        place_on_axis = np.empty(places.size, int)
        for coordinates, place in np.ndenumerate(places):
            place_on_axis[place] = coordinates[axis]
        groups = self.groups or (tuple(range(places.size)),)
        return any(len({int(place_on_axis[device]) for device in group}) > 1 for group in groups)


def bytes_of(shapes: Shapes) -> int:
    return sum(_BYTES.get(dtype, 0) * int(np.prod(shape, dtype=np.int64)) for dtype, shape in shapes)


def split_type(text: str) -> tuple[str, str]:
    """'(f32[2]{0}, s32[]) while(...' -> the type and what follows it."""
    if not text.startswith("("):
        result, _, rest = text.partition(" ")
        return result, rest
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return text[: place + 1], text[place + 1 :].strip()
    return text, ""


def elements(text: str) -> list[str]:
    """'((f32[2]{0}, f32[3]{0}), f32[4]{0})' -> its elements: one or more arrays each."""
    found, depth = [""], 0
    for character in text[1:-1]:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and not depth:
            found.append("")
        else:
            found[-1] += character
    return found


def shapes_in(text: str) -> Shapes:
    return tuple(
        (dtype, tuple(int(size) for size in sizes.split(",") if size))
        for dtype, sizes in _SHAPE.findall(text)
        if dtype in _BYTES
    )


def groups_in(text: str) -> tuple[tuple[int, ...], ...]:
    """replica_groups={{0,1},{2,3}}, replica_groups=[2,2]<=[4]T(1,0), or source_target_pairs; () means all devices."""
    listed = re.search(r"(?:replica_groups|source_target_pairs)=\{(\{[\d,{}]*\})\}", text)
    if listed:
        return tuple(tuple(int(d) for d in group.split(",")) for group in re.findall(r"\{([\d,]+)\}", listed[1]))
    iota = re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text)
    if iota:
        shape, dimensions = ([int(n) for n in name_of.split(",")] for name_of in iota.group(1, 2))
        devices = np.arange(int(np.prod(dimensions))).reshape(dimensions)
        if iota[3]:
            devices = devices.transpose([int(n) for n in iota[3].split(",")])
        return tuple(tuple(int(d) for d in row) for row in devices.reshape(shape))
    mesh = re.search(r"replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}", text)
    if mesh:
        return _mesh_groups(mesh[1], mesh[2])
    return ()


def _mesh_groups(axes: str, varying: str) -> tuple[tuple[int, ...], ...]:
    """mesh['a'=2,'b'=4] {'b'}: groups along the named axes."""
    sizes = [(name, int(size)) for name, size in re.findall(r"'?\"?(\w+)\"?'?=(\d+)", axes)]
    names = set(re.findall(r"\w+", varying))
    places = np.arange(int(np.prod([size for _, size in sizes]))).reshape([size for _, size in sizes])
    fixed = [range(1) if name in names else range(size) for name, size in sizes]
    groups = []
    for corner in itertools.product(*fixed):
        index = tuple(slice(None) if name in names else at for (name, _), at in zip(sizes, corner, strict=True))
        groups.append(tuple(int(d) for d in places[index].reshape(-1)))
    return tuple(groups)
