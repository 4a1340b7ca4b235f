"""Bytes that a kernel moves, by hand, from programs as XLA writes them."""

import pytest

from benchmarks.speed.instructions import bytes_moved, read_instructions, sizes_of

# A ring of 100 rows of 4 numbers (1,600 bytes), read at 8 places (128 bytes) and written at one (16 bytes).
PROGRAM = """\
HloModule jit_counted, is_scheduled=true

%fused_row (param_0: f32[100,4], param_1: f32[1,4], param_2: s32[]) -> f32[100,4] {
  %param_0 = f32[100,4]{1,0} parameter(0)
  %param_1 = f32[1,4]{1,0} parameter(1)
  %scaled.1 = f32[1,4]{1,0} multiply(%param_1, %param_1)
  %param_2 = s32[] parameter(2)
  %zero.1 = s32[] constant(0)
  ROOT %dynamic-update-slice.1 = f32[100,4]{1,0} dynamic-update-slice(%param_0, %scaled.1, %param_2, %zero.1)
}

%fused_batch (param_0.1: f32[100,4], param_1.1: s32[8]) -> (f32[8,4], f32[]) {
  %param_0.1 = f32[100,4]{1,0} parameter(0)
  %doubled = f32[100,4]{1,0} add(%param_0.1, %param_0.1)
  %param_1.1 = s32[8]{0} parameter(1)
  %gather.1 = f32[8,4]{1,0} gather(%doubled, %param_1.1), offset_dims={1}
  %zero.2 = f32[] constant(0)
  %sum.1 = f32[] reduce(%gather.1, %zero.2), dimensions={0,1}, to_apply=%add
  ROOT %tuple.1 = (f32[8,4]{1,0}, /*index=1*/f32[]) tuple(%gather.1, %sum.1)
}

%fused_half (param_0.2: f32[10], param_1.2: f32[10]) -> f32[5] {
  %param_0.2 = f32[10]{0} parameter(0)
  %param_1.2 = f32[10]{0} parameter(1)
  %both.1 = f32[10]{0} add(%param_0.2, %param_1.2)
  %slice.1 = f32[5]{0} slice(%both.1), slice={[0:5]}
  %rest.1 = f32[5]{0} slice(%param_1.2), slice={[5:10]}
  ROOT %bitcast.1 = f32[5]{0} add(%slice.1, %rest.1)
}

ENTRY %main.1 (ring: f32[100,4], row: f32[1,4], places: s32[8], at: s32[], v: f32[10], w: f32[10]) -> f32[100,4] {
  %ring = f32[100,4]{1,0} parameter(0)
  %row = f32[1,4]{1,0} parameter(1)
  %places = s32[8]{0} parameter(2)
  %at = s32[] parameter(3)
  %v = f32[10]{0} parameter(4)
  %w = f32[10]{0} parameter(5)
  %batch = (f32[8,4]{1,0}, f32[]) fusion(%ring, %places), kind=kLoop, calls=%fused_batch, metadata={op_name="a"}
  %half = f32[5]{0} fusion(%v, %w), kind=kLoop, calls=%fused_half
  %same = f32[5]{0} fusion(%v, %v), kind=kLoop, calls=%fused_half
  %copy.1 = f32[10]{0} copy(%v)
  %dot.1 = f32[8,8]{1,0} dot(%rows.1, %rows.1), lhs_contracting_dims={1}, rhs_contracting_dims={1}
  %slice.2 = f32[2,4]{1,0} dynamic-slice(%ring, %at, %at), dynamic_slice_sizes={2,4}
  %scatter.1 = f32[100,4]{1,0} scatter(%ring, %places, %rows.1), to_apply=%add
  %rows.1 = f32[8,4]{1,0} get-tuple-element(%batch), index=0
  ROOT %written = f32[100,4]{1,0} fusion(%ring, %row, %at), kind=kLoop, calls=%fused_row
}
"""


@pytest.mark.parametrize(
    ("name", "moved"),
    [
        # The row and its place are read, and the row is written where the ring lies.
        ("written", 16 + 4 + 16),
        # Eight rows and their places are read, though the sum is of the ring; eight rows and their sum are written.
        ("batch", 128 + 32 + 128 + 4),
        # Half of the first array, and of the second both halves; half as many numbers are written.
        ("half", 20 + 40 + 20),
        ("same", 40 + 20),
        ("copy.1", 40 + 40),
        # An array that is both factors is read once.
        ("dot.1", 128 + 256),
        ("slice.2", 32 + 4 + 32),
        ("scatter.1", 32 + 128 + 128),
    ],
)
def test_bytes_are_what_the_results_need_and_what_is_written(name, moved):
    found = read_instructions(PROGRAM)
    assert bytes_moved(found[name], found) == moved


def test_a_fusion_within_a_fusion_reads_what_it_reads():
    text = PROGRAM.replace(
        "ENTRY %main.1",
        """\
%outer (param_0.3: f32[100,4], param_1.3: s32[8]) -> f32[] {
  %param_0.3 = f32[100,4]{1,0} parameter(0)
  %param_1.3 = s32[8]{0} parameter(1)
  ROOT %inner = (f32[8,4]{1,0}, f32[]) fusion(%param_0.3, %param_1.3), kind=kLoop, calls=%fused_batch
}

ENTRY %main.1""",
    ).replace("calls=%fused_batch, metadata", "calls=%outer, metadata")
    found = read_instructions(text)
    assert len(found["batch"].inside) == 3 and bytes_moved(found["batch"], found) == 128 + 32 + 128 + 4


def test_sizes_are_bytes():
    assert sizes_of("(f32[100,4]{1,0}, bf16[2,3], pred[7]{0}, s64[], u8[3]{0})") == (1600, 12, 7, 8, 3)
