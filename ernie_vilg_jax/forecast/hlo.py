"""Reads a compiled program: the compiler's own cycle estimates, and what the devices send each other.

XLA's cost analysis counts the body of a loop once, and its `optimal_seconds` is not meant as a time. The text of a
program compiled for TPU carries `estimated_cycles` for each operation; here they are summed, times the trips of the
loops around them. Not in the sum: collectives (listed apart) and Pallas kernels, which the compiler charges nothing for
(the FLOPs of the attention kernel are counted, `Program.kernel_flops`). The figures are estimates: good for comparing
two programs for the same chip, not a measurement.
"""

import dataclasses
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property

import numpy as np

Shapes = tuple[tuple[str, tuple[int, ...]], ...]
"""(dtype, sizes) of arrays."""

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4}
_BYTES |= {"s64": 8, "u64": 8, "f64": 8, "f8e4m3fn": 1, "f8e5m2": 1, "s4": 1, "u4": 1}
_KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute", "ragged-all-to-all")
# What they return was there before.
_NOTHING_NEW = ("parameter", "get-tuple-element", "tuple", "while", "conditional", "bitcast", "optimization-barrier")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_SHAPE = re.compile(r"\b(\w+)\[([\d,]*)\]")
# Matrix products in each kernel of splash attention; both of the backward pass compute the logits again.
_PRODUCTS = {"splash_mha_fwd": 2, "splash_mha_dq": 3, "splash_mha_dkv": 4}
_LANES = 128
_OPERATION = re.compile(r"^\s+(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<rest>.*)$")


@dataclasses.dataclass(frozen=True)
class Operation:
    name: str
    kind: str  # opcode: fusion, while, all-gather-start, ...
    result: str  # its type, as text
    rest: str  # operands and attributes, as text

    def attribute(self, pattern: str) -> str | None:
        found = re.search(pattern, self.rest)
        return found[1] if found else None


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective operation: `trips` times, `groups` of devices (places in the mesh, in order) exchange `shapes`.

    `shapes` are those of all its arrays on one device, for the compiler combines many into one operation: of what goes
    in or of what comes out, whichever is more. So an all-gather counts what it makes, a reduce-scatter what it takes.
    """

    kind: str
    trips: int
    shapes: Shapes
    groups: tuple[tuple[int, ...], ...]

    @property
    def bytes(self) -> int:
        """Of all its arrays, on one device, once."""
        return bytes_of(self.shapes)

    def crosses(self, mesh_shape: Iterable[int], axis: int) -> bool:
        """Whether a group holds devices at different places along that axis of the mesh."""
        places = np.arange(int(np.prod(tuple(mesh_shape)))).reshape(tuple(mesh_shape))
        place_on_axis = np.empty(places.size, int)
        for coordinates, place in np.ndenumerate(places):
            place_on_axis[place] = coordinates[axis]
        groups = self.groups or (tuple(range(places.size)),)
        return any(len({int(place_on_axis[device]) for device in group}) > 1 for group in groups)


def bytes_of(shapes: Shapes) -> int:
    return sum(_BYTES.get(dtype, 0) * int(np.prod(shape, dtype=np.int64)) for dtype, shape in shapes)


class Program:
    """A compiled program, from `compiled.as_text()`.

    A loop that runs as often as its data say counts `turns` times.
    """

    def __init__(self, text: str, turns: int = 1) -> None:
        self.turns = turns
        self.computations: dict[str, list[Operation]] = {}
        self._totals: dict[str, int] = {}
        self.entry = ""
        current: list[Operation] | None = None
        for line in text.splitlines():
            if not line.startswith((" ", "}")) and (head := _HEAD.match(line)):
                current = self.computations.setdefault(head[2], [])
                if head[1]:
                    self.entry = head[2]
            elif current is not None and (match := _OPERATION.match(line)):
                result, rest = _split_type(match["rest"])
                kind, _, rest = rest.partition("(")
                current.append(Operation(match["name"], kind.strip(), result, rest))
        if not self.entry:
            raise ValueError("no ENTRY computation: not the text of a compiled program")

    @cached_property
    def trips(self) -> dict[str, int]:
        """How often each computation runs. Of a conditional's branches each counts as taken."""
        return self._runs(self._calls)

    def _runs(self, calls: Callable[[Operation], Iterable[tuple[str, int]]]) -> dict[str, int]:
        """How often each computation runs, where an operation calls what `calls` says, so many times."""
        runs: Counter[str] = Counter()
        unread = [(self.entry, 1)]
        while unread:
            name, times = unread.pop()
            runs[name] += times
            for operation in self.computations[name]:
                unread += [(callee, times * repeat) for callee, repeat in calls(operation)]
        return dict(runs)

    def _calls(self, operation: Operation) -> list[tuple[str, int]]:
        """The computations that it runs, and how often; all branches of a conditional."""
        return [(callee, repeat) for callee, repeat in self._named(operation) if callee in self.computations]

    def _dearest(self, operation: Operation) -> list[tuple[str, int]]:
        """What it calls; of a conditional the branch of most cycles only."""
        calls = self._calls(operation)
        if operation.kind != "conditional" or not calls:
            return calls
        return [max(calls, key=lambda call: self._total(call[0]))]

    def _named(self, operation: Operation) -> Iterator[tuple[str, int]]:
        """As `_calls`, by name, whether the program's text has them or not."""
        if operation.kind == "while":
            repeat = self._trip_count(operation)
            body = operation.attribute(r"body=%?([\w.\-]+)")
            if body:
                yield body, repeat
        elif operation.kind == "conditional":
            listed = operation.attribute(r"branch_computations=\{([^}]*)\}") or ""
            two = re.findall(r"(?:true|false)_computation=%?([\w.\-]+)", operation.rest)
            for name in [*re.findall(r"[\w.\-]+", listed), *two]:
                yield name, 1
        elif operation.kind in ("call", "async-start") and (
            callee := operation.attribute(r"(?:calls|to_apply|called_computation)=%?([\w.\-]+)")
        ):
            yield callee, 1

    def _trip_count(self, loop: Operation) -> int:
        known = loop.attribute(r'known_trip_count"?:\s*\{\s*"?n"?:\s*"?(\d+)')
        if known:
            return int(known)
        condition = self.computations.get(loop.attribute(r"condition=%?([\w.\-]+)") or "", [])
        bounds = [int(o.rest.split(")")[0]) for o in condition if o.kind == "constant" and re.match(r"\d+\)", o.rest)]
        return max(bounds, default=self.turns)

    @property
    def cycles(self) -> int:
        """Estimated cycles of one run, loops counted; of a conditional the dearest branch. 0 if compiled for CPU."""
        return self._total(self.entry)

    def _total(self, name: str) -> int:
        """Cycles of one run of a computation."""
        if name not in self._totals:
            self._totals[name] = sum(self._own(operation) for operation in self.computations[name])
        return self._totals[name]

    def _own(self, operation: Operation) -> int:
        calls = self._dearest(operation)
        return sum(repeat * self._total(callee) for callee, repeat in calls) if calls else _cycles(operation)

    def shares(self, patterns: Mapping[str, str]) -> dict[str, float]:
        """Name -> its share of `cycles`, the largest first; `patterns` is name -> pattern.

        The first pattern that is found in the name of the operation that the compiler made a fusion from claims it;
        what none is found in is the "rest".
        """
        cycles: Counter[str] = Counter()
        for name, times in self._runs(self._dearest).items():
            for operation in self.computations[name]:
                if not self._calls(operation):
                    source = operation.attribute(r'op_name="([^"]*)"') or ""
                    work = next((work for work, pattern in patterns.items() if re.search(pattern, source)), "rest")
                    cycles[work] += times * _cycles(operation)
        return {work: count / max(cycles.total(), 1) for work, count in cycles.most_common() if count}

    @cached_property
    def kernel_flops(self) -> float:
        """Of the attention kernels, on one device in one run; a head counts as 128 channels, as on the MXU."""
        total = 0.0
        for name, times in self.trips.items():
            for operation in self.computations[name]:
                products = next((n for kernel, n in _PRODUCTS.items() if operation.name.startswith(kernel)), 0)
                if operation.kind != "custom-call" or not products:
                    continue
                operands = operation.attribute(r"operand_layout_constraints=\{(.*?)\}, [a-z_]+=") or operation.rest
                # [B, heads, positions, d], of one picture without B: the queries, then the keys.
                q, k = [shape for dtype, shape in _shapes(operands) if dtype in ("bf16", "f32") and len(shape) > 2][:2]
                total += times * products * 2 * float(np.prod(q[:-1])) * k[-2] * max(q[-1], _LANES)
        return total

    @cached_property
    def collectives(self) -> list[Collective]:
        found = []
        for name, times in self.trips.items():
            for operation in self.computations[name]:
                inside = self._inside(operation)
                # How a reduce-scatter is written for TPU: a fusion of this name, of a sum and what is cut from it.
                cut = bool(inside) and "all-reduce-scatter" in operation.rest
                for one, where in inside or [(operation, name)]:
                    kind = "reduce-scatter" if cut else one.kind.removesuffix("-start")
                    if kind in _KINDS:
                        found.append(Collective(kind, times, self._arrays(one, where), _groups(one.rest)))
        return found

    def _inside(self, operation: Operation) -> list[tuple[Operation, str]]:
        """The collectives that a fusion holds, and where: the compiler fuses some with what makes or takes them."""
        if operation.kind != "fusion":
            return []
        callee = operation.attribute(r"calls=%?([\w.\-]+)") or ""
        inside = self.computations.get(callee, [])
        return [(one, callee) for one in inside if one.kind.removesuffix("-start") in _KINDS]

    def _arrays(self, collective: Operation, computation: str) -> Shapes:
        """`Collective.shapes` of an operation in that computation."""
        result = collective.result
        if collective.kind.endswith("-start") and collective.kind != "all-reduce-start":
            result = _elements(result)[1]  # behind the operands; what follows is the operation's own
        results = {operation.name: operation.result for operation in self.computations[computation]}
        names = re.findall(r"%([\w.\-]+)", _split_type(f"({collective.rest}")[0])
        operands = _shapes(" ".join(results.get(name, "") for name in names))
        return max(_shapes(result), operands, key=bytes_of)

    @property
    def largest(self) -> str:
        """The largest array that an operation makes: its type, GiB, and where in the model it comes from."""
        made = [
            (bytes_of((shape,)), shape, operation)
            for name in self.trips
            for operation in self.computations[name]
            if operation.kind not in _NOTHING_NEW
            for shape in _shapes(operation.result)
        ]
        size, (dtype, sizes), operation = max(made, key=lambda one: one[0], default=(0, ("", ()), None))
        if operation is None:
            return ""
        source = operation.attribute(r'op_name="([^"]*)"') or operation.name
        return f"{size / 2**30:.2f} GiB, {dtype}{list(sizes)} of {source}"

    def traffic(self) -> dict[str, tuple[int, int]]:
        """Kind -> (how many run, bytes of all their arrays), on one device in one run; `Collective` says which."""
        kinds: dict[str, tuple[int, int]] = {}
        for one in self.collectives:
            count, size = kinds.get(one.kind, (0, 0))
            kinds[one.kind] = count + one.trips, size + one.trips * one.bytes
        return kinds


def _cycles(operation: Operation) -> int:
    """The compiler's estimate. A few operations (its "unknown") carry 2^63 - 1."""
    cycles = int(operation.attribute(r'"estimated_cycles":"(\d+)"') or 0)
    return cycles if cycles < 10**15 else 0


def _split_type(text: str) -> tuple[str, str]:
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


def _elements(text: str) -> list[str]:
    """'((f32[2]{0}, f32[3]{0}), f32[4]{0})' -> its elements: one or more arrays each."""
    found, depth = [""], 0
    for character in text[1:-1]:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and not depth:
            found.append("")
        else:
            found[-1] += character
    return found


def _shapes(text: str) -> Shapes:
    return tuple(
        (dtype, tuple(int(size) for size in sizes.split(",") if size))
        for dtype, sizes in _SHAPE.findall(text)
        if dtype in _BYTES
    )


def _groups(text: str) -> tuple[tuple[int, ...], ...]:
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
