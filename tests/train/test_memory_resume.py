"""Resuming a run with a memory of another kind or width is refused in one sentence, and leaves the run as it is."""

import flax.linen as nn
import jax.numpy as jnp
import pytest
from command_lines import refused

from purejaxdqn import register, train
from purejaxdqn.networks.memory import MEMORIES
from purejaxdqn.runs.folder import CONFIG

SMALL = ["--algo", "pqn-rnn", "--env", "CartPole-v1", "--total-steps", "64", "--num-envs", "2", "--rollout-length", "8"]
SMALL += ["--num-minibatches", "1", "--num-epochs", "1", "--hidden", "4", "--eval-episodes", "2"]


class Idle(nn.Module):
    """Gives what it is given, and carries zeros."""

    width: int

    @nn.nowrap
    def init_carry(self, batch):
        return jnp.zeros((batch, self.width))

    @nn.compact
    def __call__(self, carry, x, starts):
        return carry, x


@pytest.fixture
def idle():
    """Makes the memory `idle` one of a width."""

    def make(width):
        MEMORIES.pop("idle", None)
        register("memory", "idle", lambda config: Idle(width))

    yield make
    MEMORIES.pop("idle", None)


def test_a_carry_of_another_width_is_refused(idle, capsys, tmp_path):
    """Parameters fit and what was carried does not; another cell, or another size of it, is refused by its flag."""
    idle(3)
    folder = tmp_path / "run"
    memory = ["--memory", "idle", "--no-compilation-cache"]
    assert train.main([*SMALL, *memory, "--quiet", "--out", str(folder)]) == 0
    before = (folder / CONFIG).read_bytes()
    capsys.readouterr()
    resume = ["--resume", str(folder), "--total-steps", "128", "--no-compilation-cache"]
    for flag, value in (("--memory", "gru"), ("--memory-size", "8")):
        assert f"{flag} {value}: " in refused(capsys, train.main, [*resume, flag, value])
    idle(5)
    said = refused(capsys, train.main, resume)
    assert "carry is float32[1, 2, 3] where float32[1, 2, 5] belongs; begin a new run" in said
    assert (folder / CONFIG).read_bytes() == before
