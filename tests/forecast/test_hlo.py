"""Figures from the text of a compiled program, for a program short enough to count by hand."""

import json
import math
import os
import subprocess
import sys

import pytest

from ernie_vilg_jax.forecast.hlo import Program

TEXT = """HloModule jit_step, is_scheduled=true

%body (state: (s32[], f32[8])) -> (s32[], f32[8]) {
  %state = (s32[], f32[8]) parameter(0)
  %inner = f32[8]{0} fusion(%state), kind=kLoop, calls=%sum, backend_config={"estimated_cycles":"100"}
  %reduce = f32[8]{0} all-reduce(%inner), replica_groups={{0,1},{2,3}}, to_apply=%add
  ROOT %tuple = (s32[], f32[8]) tuple(%state, %reduce)
}

%condition (state.1: (s32[], f32[8])) -> pred[] {
  %state.1 = (s32[], f32[8]) parameter(0)
  %bound = s32[] constant(5)
  ROOT %less = pred[] compare(%state.1, %bound), direction=LT
}

%open_condition (state.2: (s32[], f32[8])) -> pred[] {
  %state.2 = (s32[], f32[8]) parameter(0)
  ROOT %less.1 = pred[] compare(%state.2, %state.2), direction=LT
}

%cheap (c: f32[8]) -> f32[8] {
  %c = f32[8]{0} parameter(0)
  ROOT %one = f32[8]{0} fusion(%c), kind=kLoop, calls=%sum, backend_config={"estimated_cycles":"1"}
}

%dear (d: f32[8]) -> f32[8] {
  %d = f32[8]{0} parameter(0)
  ROOT %seven = f32[8]{0} fusion(%d), kind=kLoop, calls=%sum, backend_config={"estimated_cycles":"7000"}
}

%all-reduce-scatter.1 (s: f32[8]) -> f32[4] {
  %s = f32[8]{0} parameter(0)
  %whole = f32[8]{0} all-reduce(%s), replica_groups={{0,1}}, to_apply=%add
  ROOT %part = f32[4]{0} dynamic-slice(%whole, %s), dynamic_slice_sizes={4}
}

ENTRY %main (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  %scattered = f32[4]{0} fusion(%p), kind=kCustom, calls=%all-reduce-scatter.1
  %first = f32[8]{0} fusion(%p), kind=kLoop, calls=%sum, backend_config={"estimated_cycles":"20"}
  %unknown = f32[8]{0} fusion(%p), kind=kLoop, calls=%sum, backend_config={"estimated_cycles":"9223372036854775807"}
  %loop = (s32[], f32[8]) while(%first), condition=%condition, body=%body
  %open = (s32[], f32[8]) while(%first), condition=%open_condition, body=%body
  ROOT %choice = f32[8]{0} conditional(%p, %first, %first), branch_computations={%cheap, %dear}
}
"""


def test_cycles_count_loops_as_often_as_they_run_and_the_dearest_branch() -> None:
    assert Program(TEXT).cycles == 20 + 5 * 100 + 1 * 100 + 7000
    assert Program(TEXT, turns=12).cycles == 20 + 5 * 100 + 12 * 100 + 7000


def test_shares_go_to_the_first_pattern_found() -> None:
    text = TEXT.replace('estimated_cycles":"20"}', 'estimated_cycles":"20"}, metadata={op_name="jit(f)/UNet/conv"}')
    program = Program(text.replace('estimated_cycles":"100"}', 'estimated_cycles":"100"}, metadata={op_name="norm"}'))
    total = 20 + 6 * 100 + 7000  # The more expensive of two branches.
    assert program.shares({"norms": "norm", "U-Net": "UNet", "all": ""}) == {
        "all": 7000 / total,
        "norms": 600 / total,
        "U-Net": 20 / total,
    }
    assert set(program.shares({"norms": "norm"})) == {"rest", "norms"}


@pytest.mark.parametrize("pictures", [(2,), ()], ids=["two pictures", "one picture"])
def test_attention_kernels_are_counted_by_their_matrix_products(pictures: tuple[int, ...]) -> None:
    """The arrays of a single image come without the dimension of the batch."""
    array = lambda dtype, *sizes: f"{dtype}[{','.join(map(str, (*pictures, *sizes)))}]"  # noqa: E731
    layouts = ", ".join([array("bf16", 4, 256, 64), *[array("bf16", 4, 384, 64)] * 2, array("s32", 256, 128)])
    kernel = 'custom-call(%state), custom_call_target="tpu_custom_call"'
    operands = f"operand_layout_constraints={{s8[1]{{0}}, {layouts}}}, x={{1}}"
    line = f"  %splash_mha_dq_segmented.1 = f32[8]{{0}} {kernel}, {operands}"
    text = TEXT.replace("  %inner =", f"{line}\n  %inner =", 1)
    # Three products of 256 x 384 logits by 128 channels (64, filled up), for 4 heads an image, in loops of 5 and 1.
    assert Program(text).kernel_flops == 6 * 3 * 2 * math.prod(pictures) * 4 * 256 * 384 * 128
    assert Program(TEXT).kernel_flops == 0


def test_traffic_counts_loops_too() -> None:
    assert Program(TEXT, turns=12).traffic() == {"all-reduce": (17, 17 * 8 * 4), "reduce-scatter": (1, 8 * 4)}


SPLIT = """HloModule combined, is_scheduled=true

%all-reduce-scatter.2 (a: f32[8], b: f32[6]) -> (f32[4], f32[3]) {
  %a = f32[8]{0} parameter(0)
  %b = f32[6]{0} parameter(1)
  %sums = (f32[8]{0:T(8,128)(2,1)}, f32[6]{0}) all-reduce(%a, %b), replica_groups={{0,1}}, to_apply=%add
  ROOT %cut = (f32[4]{0}, f32[3]{0}) tuple(%sums, %sums)
}

%wrapped (c: bf16[8]) -> bf16[32] {
  %c = bf16[8]{0} parameter(0)
  ROOT %inner = bf16[32]{0} all-gather(%c), replica_groups={{0,1,2,3}}, dimensions={0}
}

ENTRY %main (p: f32[8], q: f32[6], r: bf16[8]) -> f32[8] {
  %p = f32[8]{0:T(8,128)} parameter(0)
  %q = f32[6]{0} parameter(1)
  %r = bf16[8]{0} parameter(2)
  LINE
}
"""
FLOAT, HALF = 4, 2


@pytest.mark.parametrize(
    ("line", "kind", "size"),
    [
        ("%s = (f32[8]{0}, f32[6]{0}) all-reduce(%p, %q), to_apply=%add", "all-reduce", (8 + 6) * FLOAT),
        ("%s = (f32[8]{0}, f32[6]{0}) all-reduce-start(%p, %q), to_apply=%add", "all-reduce", (8 + 6) * FLOAT),
        ("%s = bf16[32]{0} all-gather(%r), dimensions={0}", "all-gather", 32 * HALF),
        # A start also returns its operands, and may have its own counters after its results.
        ("%s = (bf16[8]{0}, bf16[32]{0}) all-gather-start(%r), dimensions={0}", "all-gather", 32 * HALF),
        (
            "%s = ((f32[8]{0:T(8,128)}, bf16[8]{0}), (f32[32]{0:T(8,128)}, bf16[32]{0})) all-gather-start(%p, %r)",
            *("all-gather", 32 * FLOAT + 32 * HALF),
        ),
        (
            "%s = (f32[8]{0}, f32[8]{0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%p), "
            "source_target_pairs={{0,1}}",
            *("collective-permute", 8 * FLOAT),
        ),
        ("%s = (bf16[2]{0}, f32[2]{0}) reduce-scatter(%r, %p), to_apply=%add", "reduce-scatter", 8 * (HALF + FLOAT)),
        ("%s = (f32[2]{0}, f32[2]{0}) all-to-all(%p, %p), dimensions={0}", "all-to-all", 2 * 8 * FLOAT),
        (
            "%s = (f32[4]{0}, f32[3]{0}) fusion(%p, %q), kind=kCustom, calls=%all-reduce-scatter.2",
            *("reduce-scatter", (8 + 6) * FLOAT),
        ),
        ("%s = ((bf16[8]{0}), bf16[32]{0}, u32[]) async-start(%r), calls=%wrapped", "all-gather", 32 * HALF),
    ],
    ids=lambda value: value.split(") ")[-1].split("(")[0] if isinstance(value, str) else None,
)
def test_a_collective_counts_all_arrays_that_it_takes_or_makes(line: str, kind: str, size: int) -> None:
    done = kind + "-done(%s)"  # is not a separate collective
    text = SPLIT.replace("LINE", f"{line}\n  ROOT %done = f32[8]{{0}} {done}")
    assert Program(text).traffic() == {kind: (1, size)}


def test_a_fusion_counts_every_collective_in_it() -> None:
    second = "%more = f32[8]{0} all-reduce(%a), replica_groups={{0,1}}, to_apply=%add\n  ROOT %cut"
    line = "%s = (f32[4]{0}, f32[3]{0}) fusion(%p, %q), kind=kCustom, calls=%all-reduce-scatter.2"
    text = SPLIT.replace("ROOT %cut", second).replace("LINE", f"{line}\n  ROOT %end = f32[8]{{0}} copy(%p)")
    assert Program(text).traffic() == {"reduce-scatter": (2, (8 + 6 + 8) * FLOAT)}


def test_the_largest_array_and_where_it_comes_from() -> None:
    made = '%made = (f32[2]{0}, f32[1024,1024,256]{2,1,0}) fusion(%p), calls=%sum, metadata={op_name="jit(f)/conv"}'
    given = "%given = f32[4096,1024,256]{2,1,0} parameter(3)"
    text = SPLIT.replace("LINE", f"{given}\n  {made}\n  ROOT %end = f32[8]{{0}} copy(%p)")
    assert Program(text).largest == "1.00 GiB, f32[1024, 1024, 256] of jit(f)/conv"


# Run in a separate process: the flags of the tests are for CPU, and libtpu fails on unknown flags.
REAL = """
import json
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from ernie_vilg_jax.forecast.hlo import Program
from ernie_vilg_jax.forecast.report import peak_of
from ernie_vilg_jax.forecast.topology import devices_of

mesh = Mesh(np.asarray(devices_of("v5e:2x2")), ("data",))
shapes = [(256, 256)] * 6 + [(256, 128), (128, 256)]
whole, over = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
params = [jax.ShapeDtypeStruct(shape, jnp.float32, sharding=whole) for shape in shapes]
x = jax.ShapeDtypeStruct((64, 256), jnp.float32, sharding=over)

def loss(params, x):
    for w in params:
        x = jnp.tanh(x @ w)
    return x.sum()

def step(params, x):
    return jax.tree.map(lambda p, g: p - g, params, jax.grad(loss)(params, x))

compiled = jax.jit(step, donate_argnums=0, out_shardings=whole).lower(params, x).compile()
print(json.dumps([Program(compiled.as_text()).traffic(), peak_of(compiled.memory_analysis())]))
"""


@pytest.mark.slow
def test_traffic_and_peak_of_a_real_program_match_the_formulas() -> None:
    """Data-parallel training: each gradient is summed once, however the compiler combines the sums."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run([sys.executable, "-c", REAL], capture_output=True, text=True, check=True, env=environment)
    traffic, peak = json.loads(done.stdout)
    gradients = 4 * (6 * 256 * 256 + 2 * 256 * 128)
    assert traffic["all-reduce"][1] == gradients
    assert traffic["all-reduce"][0] < 8  # some were combined
    assert gradients + 4 * 64 * 256 / 4 <= peak < 20 * gradients


def test_traffic_across_an_axis() -> None:
    reduce = next(one for one in Program(TEXT).collectives if one.kind == "all-reduce")
    assert reduce.groups == ((0, 1), (2, 3))
    assert reduce.crosses((2, 2), axis=1)
    assert not reduce.crosses((2, 2), axis=0)


def test_other_text_is_refused() -> None:
    with pytest.raises(ValueError, match="no ENTRY computation"):
        Program("not a program")
