"""The recipes of Atari 100k: the published values, and the number of updates that each has for a step."""

import pytest

from purejaxdqn.build import changed_settings, check_read
from purejaxdqn.config import SettingError
from purejaxdqn.recipes.atari_100k import ATARI_100K
from purejaxdqn.recipes.recipes import RECIPES, make_settings

# (updates for a step, steps before the first update, n, τ, updates between two moves of the target, final ε, the step
# at which it gets there, share of the torso that a reset keeps, widths of dense layers): der.gin, DrQ.gin, SR_SPR.gin
# and BBF.gin of google-research/bigger_better_faster.
PUBLISHED = {
    "der": (1, 1_600, 10, 1.0, 8_000, 0.01, 3_600, None, (512,)),
    "drq": (1, 1_600, 10, 1.0, 1, 0.01, 4_100, None, (512,)),
    "sr-spr": (8, 2_000, 10, 0.005, 1, 0.0, 4_001, 0.8, (512,)),
    "bbf": (2, 2_000, 10, 0.005, 1, 0.0, 4_001, 0.5, (2_048,)),
}
INGREDIENTS = {
    "der": ("categorical", "prioritized", True, 0, "adam"),
    "drq": ("scalar", "uniform", False, 4, "adam"),
    "sr-spr": ("categorical", "prioritized", False, 4, "adam"),
    "bbf": ("categorical", "prioritized", False, 4, "adamw"),
}


@pytest.mark.parametrize("name", ATARI_100K)
def test_values_are_the_published_ones(name):
    updates, prefill, n, tau, target, final, end, shrink, hidden = PUBLISHED[name]
    config, h = make_settings(RECIPES[name])
    check_read(config, changed_settings(config))
    assert (config.total_steps, config.num_envs, config.batch_size) == (100_000, 1, 32)
    assert (config.updates_per_rollout, config.rollout_length, config.prefill_steps) == (updates, 1, prefill)
    assert config.num_updates == updates * (100_000 - prefill)
    assert (config.n_step, config.backup, config.dueling, config.hidden) == (n, "double", True, hidden)
    assert (h.tau, h.target_period, h.epsilon_start, h.epsilon_final) == (tau, target, 1.0, final)
    assert h.epsilon_fraction * config.total_steps == pytest.approx(end)
    assert (h.learning_rate, h.adam_epsilon, config.learning_rate_schedule) == (1e-4, 1.5e-4, "constant")
    found = (config.head, config.replay, config.noisy, config.random_shift, config.optimizer)
    assert found == INGREDIENTS[name]
    assert config.resets == (shrink is not None)
    if config.resets:
        assert (h.reset_period, h.reset_shrink) == (40_000, shrink)
    if config.replay == "prioritized":
        assert {h.priority_exponent, h.importance_exponent, h.importance_exponent_final} == {0.5}
    run = {"eval_every": 100_000, "eval_episodes": 100, "eval_epsilon": 0.001, "eval_max_steps": 27_000}
    assert RECIPES[name].run == run


def test_what_bbf_alone_has():
    config, h = make_settings(RECIPES["bbf"])
    assert (config.network, config.torso_width, h.weight_decay) == ("impala-cnn", 4, 0.1)
    assert (config.anneal_horizon, config.n_step, h.n_step_final, h.anneal_updates) == (True, 10, 3, 10_000)
    assert (h.gamma_start, h.gamma) == (0.97, 0.997)
    # Every 20,000 steps, of which the prefill has no updates: 4 resets, as there.
    assert config.num_updates // h.reset_period == 4


def test_a_run_that_has_no_reset_is_refused_and_one_without_resets_is_not():
    with pytest.raises(SettingError, match="reset_period=40000: the run makes 2,000 updates"):
        make_settings(RECIPES["bbf"], total_steps=3_000)
    config, _ = make_settings(RECIPES["bbf"], total_steps=3_000, resets=False)
    assert config.num_updates == 2_000
