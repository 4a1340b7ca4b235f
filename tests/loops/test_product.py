"""The product of the seams: every two choices together here (many pairs in `make test`), all 240 combinations in
`python -m benchmarks.product`."""

import pytest

from benchmarks.robustness.product import Combination, check, combinations, good, pairwise

CHOSEN = pairwise()
FIRST = [CHOSEN[i] for i in (0, 2, 3, 5, 6)]
"""One of each head, with every other choice among them; that of `fqf` is long, for `make test` has no time for five."""
REST = [combination for combination in CHOSEN if combination not in FIRST]


def test_the_selection_has_every_pair():
    """By counting: 5 heads, 3 backups and four choices of two make (5·3 + 4·2·(5+3) + 6·4) pairs."""
    chosen = CHOSEN
    pairs = {(i, a, j, b) for c in chosen for i, a in enumerate(c) for j, b in enumerate(c) if i < j}
    assert len(pairs) == 5 * 3 + 4 * 2 * (5 + 3) + 6 * 4
    assert len(chosen) < 25 and len(list(combinations())) == 240
    assert all({c[i] for c in FIRST} == {c[i] for c in chosen} for i in range(len(chosen[0])))


@pytest.mark.parametrize(
    "combination",
    [
        pytest.param(chosen, marks=pytest.mark.long if chosen in REST or chosen.head == "fqf" else [])
        for chosen in (*FIRST, *REST)
    ],
    ids=lambda c: "-".join(map(str, c)),
)
def test_choices_compose(combination):
    """Trains 2,000 steps, stays finite, vmaps over seeds, rates, discounts and τ, and new values compile nothing."""
    result = check(combination)
    assert good(result), result


PICTURES = {
    "env": "Breakout-MinAtar",
    "torso_width": 2,
    "optimizer": "adamw",
    "random_shift": 2,
    "resets": True,
    "anneal_horizon": True,
}
BLOCKS = {**PICTURES, "network": "impala-cnn", "spectral_norm": True, "torso_width": 1}
ON_PICTURES = [
    (("categorical", "max", True, False, "prioritized", 1), {**PICTURES, "pool": 6, "norm": "layer"}),
    # Of Beyond The Rainbow, and each other head with the rest of the CNN's settings.
    (("iqn", "munchausen", True, True, "prioritized", 3), {**BLOCKS, "pool": 2, "norm": "none"}),
    (("scalar", "double", False, False, "uniform", 1), {**BLOCKS, "norm": "batch"}),
    (("quantile", "munchausen", False, True, "uniform", 3), {**PICTURES, "pool": 3, "norm": "batch"}),
    (("fqf", "double", True, True, "uniform", 3), {**PICTURES, "pool": 1, "norm": "none"}),
]


NORMALISED = {"normalize_obs": True, "normalize_reward": True}
WITH_STATISTICS = [
    (("categorical", "munchausen", True, True, "prioritized", 3), {"ensemble": 2, "average_params": True}),
    # The network's own statistics are among its parameters, too.
    (("iqn", "double", False, False, "uniform", 1), {"norm": "batch", "optimizer": "adamw", "resets": True}),
]


@pytest.mark.long
@pytest.mark.parametrize(("combination", "changes"), WITH_STATISTICS, ids=[case[0][0] for case in WITH_STATISTICS])
def test_choices_compose_with_running_statistics(combination, changes):
    """Of observations and rewards: as above, and γ is one of the hypers that differ."""
    result = check(Combination(*combination), **changes, **NORMALISED)
    assert good(result), result


@pytest.mark.long
@pytest.mark.parametrize(("combination", "changes"), ON_PICTURES, ids=[case[0][0] for case in ON_PICTURES])
def test_choices_compose_with_what_a_cnn_can_be(combination, changes):
    """Width, pooling, spectral norm and the norms, shifted pictures, resets and a receding horizon: as above."""
    result = check(Combination(*combination), **changes)
    assert good(result), result
