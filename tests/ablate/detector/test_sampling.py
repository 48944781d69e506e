import torch

from ablate.detector.boxes import IGNORED, NEGATIVE, POSITIVE, Matching, match, sample

TRUTHS = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]])


def test_matching_by_iou_with_a_best_for_every_truth() -> None:
    candidates = torch.tensor(
        [
            [0.0, 0, 10, 10],  # IoU 1 with the first
            [0, 0, 10, 5],  # 0.5: between the thresholds
            [0, 0, 10, 2],  # 0.2: background
            [20, 20, 30, 24],  # 0.4, but the best for the second
            [50, 50, 60, 60],
        ]
    )
    matched, label = match(TRUTHS, candidates, Matching(0.7, 0.3, best_of_each=True))
    assert label.tolist() == [POSITIVE, IGNORED, NEGATIVE, POSITIVE, NEGATIVE]
    assert matched[[0, 3]].tolist() == [0, 1]


def test_without_truths_all_is_background() -> None:
    matched, label = match(torch.zeros(0, 4), TRUTHS, Matching(0.5, 0.5))
    assert label.tolist() == [NEGATIVE, NEGATIVE]
    assert matched.tolist() == [0, 0]


def test_sample_is_balanced_filled_up_and_repeatable() -> None:
    label = torch.tensor([POSITIVE] * 10 + [NEGATIVE] * 100 + [IGNORED] * 50)
    first = sample(label, 20, 0.25, torch.Generator().manual_seed(1))[:2]
    assert [len(part) for part in first] == [5, 15]
    assert (label[first[0]] == POSITIVE).all()
    assert (label[first[1]] == NEGATIVE).all()
    assert len(set(torch.cat(first).tolist())) == 20
    again = sample(label, 20, 0.25, torch.Generator().manual_seed(1))[:2]
    other = sample(label, 20, 0.25, torch.Generator().manual_seed(2))[:2]
    assert torch.equal(torch.cat(first), torch.cat(again))
    assert not torch.equal(torch.cat(first), torch.cat(other))


def test_sample_takes_what_there_is() -> None:
    positive, negative, *_ = sample(torch.tensor([POSITIVE, IGNORED, NEGATIVE]), 8, 0.5, torch.Generator())
    assert positive.tolist() == [0]
    assert negative.tolist() == [2]
