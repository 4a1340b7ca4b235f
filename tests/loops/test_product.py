"""The product of the seams: every two choices together here (most pairs in `make test`), all 240 combinations in
`python -m benchmarks.product`."""

import pytest

from benchmarks.robustness.product import check, combinations, good, pairwise

CHOSEN = pairwise()
FIRST, REST = CHOSEN[:9], CHOSEN[9:]
"""Those that have the most pairs, every choice among them; and the others."""


def test_the_selection_has_every_pair():
    """By counting: 5 heads, 3 backups and four choices of two make (5·3 + 4·2·(5+3) + 6·4) pairs."""
    chosen = CHOSEN
    pairs = {(i, a, j, b) for c in chosen for i, a in enumerate(c) for j, b in enumerate(c) if i < j}
    assert len(pairs) == 5 * 3 + 4 * 2 * (5 + 3) + 6 * 4
    assert len(chosen) < 25 and len(list(combinations())) == 240
    assert all({c[i] for c in FIRST} == {c[i] for c in chosen} for i in range(len(chosen[0])))


@pytest.mark.parametrize(
    "combination",
    [*FIRST, *(pytest.param(combination, marks=pytest.mark.long) for combination in REST)],
    ids=lambda c: "-".join(map(str, c)),
)
def test_choices_compose(combination):
    """Trains 2,000 steps, stays finite, vmaps over seeds, rates, discounts and τ, and new values compile nothing."""
    result = check(combination)
    assert good(result), result
