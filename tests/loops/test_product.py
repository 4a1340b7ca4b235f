"""The product of the seams: every two choices together here, all 240 combinations in `python -m benchmarks.product`."""

import pytest

from benchmarks.robustness.product import check, combinations, good, pairwise


def test_the_selection_has_every_pair():
    """By counting: 5 heads, 3 backups and four choices of two make (5·3 + 4·2·(5+3) + 6·4) pairs."""
    chosen = pairwise()
    pairs = {(i, a, j, b) for c in chosen for i, a in enumerate(c) for j, b in enumerate(c) if i < j}
    assert len(pairs) == 5 * 3 + 4 * 2 * (5 + 3) + 6 * 4
    assert len(chosen) < 25 and len(list(combinations())) == 240


@pytest.mark.parametrize("combination", pairwise(), ids=lambda c: "-".join(map(str, c)))
def test_choices_compose(combination):
    """Trains 2,000 steps, stays finite, vmaps over seeds, rates, discounts and τ, and new values compile nothing."""
    result = check(combination)
    assert good(result), result
