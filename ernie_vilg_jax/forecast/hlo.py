"""Reads a compiled program: the compiler's own cycle estimates, and the traffic between devices.

XLA's cost analysis counts the body of a loop once, and its `optimal_seconds` is not meant as a time. The text of a
program compiled for TPU has `estimated_cycles` for each operation. Here they are summed, times the trips of the loops
around them. The sum leaves out collectives (listed separately) and Pallas kernels, for which the compiler has no
estimate (`Program.kernel_flops` counts the FLOPs of the attention kernel). The figures are estimates: good for
comparing two programs for the same chip, not a measurement.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property

import numpy as np

from ernie_vilg_jax.forecast.collectives import (
    KINDS,
    Collective,
    Shapes,
    bytes_of,
    elements,
    groups_in,
    shapes_in,
    split_type,
)

# Operations whose results existed before.
_NOTHING_NEW = ("parameter", "get-tuple-element", "tuple", "while", "conditional", "bitcast", "optimization-barrier")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
# Matrix products in each kernel of splash attention; both backward kernels compute the logits again.
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


class Program:
    """A compiled program, from `compiled.as_text()`.

    A loop whose number of trips is data counts `turns` times.
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
                result, rest = split_type(match["rest"])
                kind, _, rest = rest.partition("(")
                current.append(Operation(match["name"], kind.strip(), result, rest))
        if not self.entry:
            raise ValueError("no ENTRY computation: not the text of a compiled program")

    @cached_property
    def trips(self) -> dict[str, int]:
        """How often each computation runs. Every branch of a conditional counts as taken."""
        return self._runs(self._calls)

    def _runs(self, calls: Callable[[Operation], Iterable[tuple[str, int]]]) -> dict[str, int]:
        """How often each computation runs, if `calls` gives the callees of an operation and how often it calls them."""
        runs: Counter[str] = Counter()
        unread = [(self.entry, 1)]
        while unread:
            name, times = unread.pop()
            runs[name] += times
            for operation in self.computations[name]:
                unread += [(callee, times * repeat) for callee, repeat in calls(operation)]
        return dict(runs)

    def _calls(self, operation: Operation) -> list[tuple[str, int]]:
        """The computations it calls, and how often; all branches of a conditional."""
        return [(callee, repeat) for callee, repeat in self._named(operation) if callee in self.computations]

    def _most_expensive(self, operation: Operation) -> list[tuple[str, int]]:
        """What it calls; of a conditional, only the branch with most cycles."""
        calls = self._calls(operation)
        if operation.kind != "conditional" or not calls:
            return calls
        return [max(calls, key=lambda call: self._total(call[0]))]

    def _named(self, operation: Operation) -> Iterator[tuple[str, int]]:
        """As `_calls`, by name, even if the program's text lacks them."""
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
        """Estimated cycles of one run, with loops; of a conditional, the most expensive branch. 0 on CPU."""
        return self._total(self.entry)

    def _total(self, name: str) -> int:
        """Cycles of one run of a computation."""
        if name not in self._totals:
            self._totals[name] = sum(self._own(operation) for operation in self.computations[name])
        return self._totals[name]

    def _own(self, operation: Operation) -> int:
        calls = self._most_expensive(operation)
        return sum(repeat * self._total(callee) for callee, repeat in calls) if calls else _cycles(operation)

    def shares(self, patterns: Mapping[str, str]) -> dict[str, float]:
        """Name -> its share of `cycles`, the largest first; `patterns` is name -> pattern.

        An operation counts for the first pattern that its source name matches; without a match it is "rest".
        """
        cycles: Counter[str] = Counter()
        for name, times in self._runs(self._most_expensive).items():
            for operation in self.computations[name]:
                if not self._calls(operation):
                    source = operation.attribute(r'op_name="([^"]*)"') or ""
                    work = next((work for work, pattern in patterns.items() if re.search(pattern, source)), "rest")
                    cycles[work] += times * _cycles(operation)
        return {work: count / max(cycles.total(), 1) for work, count in cycles.most_common() if count}

    @cached_property
    def kernel_flops(self) -> float:
        """FLOPs of the attention kernels, on one device in one run; a head counts as 128 channels, as on the MXU."""
        total = 0.0
        for name, times in self.trips.items():
            for operation in self.computations[name]:
                products = next((n for kernel, n in _PRODUCTS.items() if operation.name.startswith(kernel)), 0)
                if operation.kind != "custom-call" or not products:
                    continue
                operands = operation.attribute(r"operand_layout_constraints=\{(.*?)\}, [a-z_]+=") or operation.rest
                # [B, heads, positions, d], without B for a single image: the queries, then the keys.
                q, k = [shape for dtype, shape in shapes_in(operands) if dtype in ("bf16", "f32") and len(shape) > 2][
                    :2
                ]
                total += times * products * 2 * float(np.prod(q[:-1])) * k[-2] * max(q[-1], _LANES)
        return total

    @cached_property
    def collectives(self) -> list[Collective]:
        found = []
        for name, times in self.trips.items():
            for operation in self.computations[name]:
                inside = self._inside(operation)
                # On TPU a reduce-scatter is a fusion of this name, which holds a sum and a slice of it.
                cut = bool(inside) and "all-reduce-scatter" in operation.rest
                for one, where in inside or [(operation, name)]:
                    kind = "reduce-scatter" if cut else one.kind.removesuffix("-start")
                    if kind in KINDS:
                        found.append(Collective(kind, times, self._arrays(one, where), groups_in(one.rest)))
        return found

    def _inside(self, operation: Operation) -> list[tuple[Operation, str]]:
        """The collectives in a fusion, and their computation: some are fused with their producers or consumers."""
        if operation.kind != "fusion":
            return []
        callee = operation.attribute(r"calls=%?([\w.\-]+)") or ""
        inside = self.computations.get(callee, [])
        return [(one, callee) for one in inside if one.kind.removesuffix("-start") in KINDS]

    def _arrays(self, collective: Operation, computation: str) -> Shapes:
        """`Collective.shapes` of an operation in that computation."""
        result = collective.result
        if collective.kind.endswith("-start") and collective.kind != "all-reduce-start":
            result = elements(result)[1]  # after the operands; the rest is internal to the operation
        results = {operation.name: operation.result for operation in self.computations[computation]}
        names = re.findall(r"%([\w.\-]+)", split_type(f"({collective.rest}")[0])
        operands = shapes_in(" ".join(results.get(name, "") for name in names))
        return max(shapes_in(result), operands, key=bytes_of)

    @property
    def largest(self) -> str:
        """The largest array that an operation produces: its type, GiB, and its source in the model."""
        made = [
            (bytes_of((shape,)), shape, operation)
            for name in self.trips
            for operation in self.computations[name]
            if operation.kind not in _NOTHING_NEW
            for shape in shapes_in(operation.result)
        ]
        size, (dtype, sizes), operation = max(made, key=lambda one: one[0], default=(0, ("", ()), None))
        if operation is None:
            return ""
        source = operation.attribute(r'op_name="([^"]*)"') or operation.name
        return f"{size / 2**30:.2f} GiB, {dtype}{list(sizes)} of {source}"

    def traffic(self) -> dict[str, tuple[int, int]]:
        """Kind -> (how often it runs, bytes of all its arrays), on one device in one run; see `Collective`."""
        kinds: dict[str, tuple[int, int]] = {}
        for one in self.collectives:
            count, size = kinds.get(one.kind, (0, 0))
            kinds[one.kind] = count + one.trips, size + one.trips * one.bytes
        return kinds


def _cycles(operation: Operation) -> int:
    """The compiler's estimate. For a few operations it is 2^63 - 1, which means unknown."""
    cycles = int(operation.attribute(r'"estimated_cycles":"(\d+)"') or 0)
    return cycles if cycles < 10**15 else 0
