"""What is read from the text of a compiled program, on a program short enough to count by hand."""

import math

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
    total = 20 + 6 * 100 + 7000  # Of two branches the dearer one.
    assert program.shares({"norms": "norm", "U-Net": "UNet", "all": ""}) == {
        "all": 7000 / total,
        "norms": 600 / total,
        "U-Net": 20 / total,
    }
    assert set(program.shares({"norms": "norm"})) == {"rest", "norms"}


@pytest.mark.parametrize("pictures", [(2,), ()], ids=["two pictures", "one picture"])
def test_attention_kernels_are_counted_by_their_matrix_products(pictures: tuple[int, ...]) -> None:
    """The arrays of a single picture come without the dimension of the batch."""
    array = lambda dtype, *sizes: f"{dtype}[{','.join(map(str, (*pictures, *sizes)))}]"  # noqa: E731
    layouts = ", ".join([array("bf16", 4, 256, 64), *[array("bf16", 4, 384, 64)] * 2, array("s32", 256, 128)])
    kernel = 'custom-call(%state), custom_call_target="tpu_custom_call"'
    operands = f"operand_layout_constraints={{s8[1]{{0}}, {layouts}}}, x={{1}}"
    line = f"  %splash_mha_dq_segmented.1 = f32[8]{{0}} {kernel}, {operands}"
    text = TEXT.replace("  %inner =", f"{line}\n  %inner =", 1)
    # Three products of 256 x 384 logits by 128 channels (64, filled up), for 4 heads a picture, in loops of 5 and 1.
    assert Program(text).kernel_flops == 6 * 3 * 2 * math.prod(pictures) * 4 * 256 * 384 * 128
    assert Program(TEXT).kernel_flops == 0


def test_traffic_counts_loops_too() -> None:
    assert Program(TEXT, turns=12).traffic() == {"all-reduce": (17, 17 * 8 * 4), "reduce-scatter": (1, 8 * 4)}


def test_what_crosses_an_axis() -> None:
    reduce = next(one for one in Program(TEXT).collectives if one.kind == "all-reduce")
    assert reduce.groups == ((0, 1), (2, 3))
    assert reduce.crosses((2, 2), axis=1)
    assert not reduce.crosses((2, 2), axis=0)


def test_other_text_is_refused() -> None:
    with pytest.raises(ValueError, match="no ENTRY computation"):
        Program("not a program")
