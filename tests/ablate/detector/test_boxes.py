import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator

from ablate.detector.boxes import cell_anchors, clip, decode, encode, grid_anchors

WEIGHTS = (10.0, 5.0)


@st.composite
def boxes(draw: st.DrawFn) -> torch.Tensor:
    count = draw(st.integers(1, 5))
    number = st.floats(1, 500, width=32)
    corners = torch.tensor([[draw(number) for _ in range(4)] for _ in range(count)])
    return torch.cat([corners[:, :2], corners[:, :2] + corners[:, 2:]], dim=1)


@given(boxes(), boxes())
def test_decode_undoes_encode(first: torch.Tensor, second: torch.Tensor) -> None:
    count = min(len(first), len(second))
    truth, reference = first[:count], second[:count]
    if ((truth[:, 2:] - truth[:, :2]) / (reference[:, 2:] - reference[:, :2])).max() > 60:
        return  # beyond the clamp of 1000 / 16
    torch.testing.assert_close(
        decode(encode(truth, reference, WEIGHTS), reference, WEIGHTS), truth, rtol=1e-3, atol=0.05
    )


@given(boxes(), boxes())
def test_deltas_are_torchvisions(first: torch.Tensor, second: torch.Tensor) -> None:
    count = min(len(first), len(second))
    truth, reference = first[:count], second[:count]
    coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
    deltas = coder.encode_single(truth, reference)
    torch.testing.assert_close(encode(truth, reference, WEIGHTS), deltas, rtol=1e-4, atol=1e-3)
    many = deltas.repeat(1, 3) * 0.7
    torch.testing.assert_close(
        decode(many, reference, WEIGHTS), coder.decode_single(many, reference), rtol=1e-4, atol=1e-2
    )


def test_decode_takes_batches() -> None:
    reference = torch.tensor([[0.0, 0, 10, 20], [5, 5, 9, 9]]).expand(3, 2, 4)
    deltas = torch.randn(3, 2, 4)
    torch.testing.assert_close(decode(deltas, reference, WEIGHTS)[1], decode(deltas[1], reference[1], WEIGHTS))


def test_sizes_grow_at_most_by_1000_over_16() -> None:
    grown = decode(torch.tensor([[0.0, 0, 1e3, 1e3]]), torch.tensor([[0.0, 0, 16, 16]]), (1, 1))
    torch.testing.assert_close(grown, torch.tensor([[-492.0, -492, 508, 508]]))


def test_clip() -> None:
    assert clip(torch.tensor([[-3.0, 2, 50, 60]]), torch.tensor([40, 30])).tolist() == [[0, 2, 30, 40]]


def test_anchors_have_the_area_and_ratio_they_should() -> None:
    sizes, ratios = (32.0, 100.0), (0.5, 1.0, 2.0)
    anchors = cell_anchors(sizes, ratios)
    width, height = anchors[:, 2] - anchors[:, 0], anchors[:, 3] - anchors[:, 1]
    torch.testing.assert_close(width * height, torch.tensor([32.0**2] * 3 + [100.0**2] * 3))
    torch.testing.assert_close(height / width, torch.tensor(ratios * 2))
    assert (anchors[:, :2] == -anchors[:, 2:]).all()


def test_anchors_are_not_rounded_but_otherwise_torchvisions() -> None:
    ours = cell_anchors((32.0,), (0.5, 1.0, 2.0))
    theirs = AnchorGenerator().generate_anchors([32], [0.5, 1.0, 2.0])
    assert (ours != theirs).any()
    torch.testing.assert_close(ours.round(), theirs)


def test_grid_of_anchors_is_torchvisions() -> None:
    cells = cell_anchors((32.0,), (0.5, 1.0, 2.0))
    generator = AnchorGenerator(sizes=((32,),), aspect_ratios=((0.5, 1.0, 2.0),))
    generator.cell_anchors = [cells]
    (expected,) = generator.grid_anchors([[3, 5]], [[torch.tensor(8), torch.tensor(8)]])
    torch.testing.assert_close(grid_anchors(cells, (3, 5), 8), expected)


@pytest.mark.parametrize("place", [(0, 0), (2, 4)])
def test_anchor_centres_start_at_the_corner(place: tuple[int, int]) -> None:
    row, column = place
    anchor = grid_anchors(cell_anchors((8.0,), (1.0,)), (3, 5), 16)[row * 5 + column]
    assert anchor.tolist() == [16 * column - 4, 16 * row - 4, 16 * column + 4, 16 * row + 4]
