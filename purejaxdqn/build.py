"""The only place where a name becomes a function."""

from typing import NamedTuple

from purejaxdqn.backups import greedy
from purejaxdqn.config import Config
from purejaxdqn.envs.gymnax import Env, make_env
from purejaxdqn.heads import Head, scalar
from purejaxdqn.learn import LearnFn, make_learn
from purejaxdqn.networks import Network, make_network
from purejaxdqn.replay.uniform import Replay, uniform


class Parts(NamedTuple):
    """The five seams, filled in, and the learning phase that they make."""

    env: Env
    network: Network
    head: Head
    replay: Replay
    learn: LearnFn


def build(config: Config) -> Parts:
    """Turns a configuration into functions.

    Raises:
      SettingError: where the environment, or what it needs, cannot be had.
    """
    env = make_env(config.env, config.env_params)
    head = scalar(config.loss)
    network = make_network(config, env.spec, head.num_atoms)
    replay = uniform(
        capacity=config.buffer_rows,
        num_envs=config.num_envs,
        batch_size=config.batch_size,
        n_step=config.n_step,
        time_limit=env.spec.time_limit,
        every_row_valid=env.every_row_valid,
    )
    learn = make_learn(config, network, head, greedy(config.double), replay)
    return Parts(env=env, network=network, head=head, replay=replay, learn=learn)
