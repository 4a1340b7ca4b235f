"""The only place where a name becomes a function."""

from typing import NamedTuple

from purejaxdqn.backups import greedy
from purejaxdqn.config import Config, EnvSpec
from purejaxdqn.envs.contract import Env
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


def build_env(config: Config) -> Env:
    """The environment that a configuration names."""
    # Imported on use: a policy is loaded where gymnax may not be installed.
    from purejaxdqn.envs.gymnax import make_env

    return make_env(config.env, config.env_params)


def build_model(config: Config, spec: EnvSpec) -> tuple[Network, Head]:
    """The network and the head that reads it, which is all that a trained policy needs."""
    head = scalar(config.loss)
    return make_network(config, spec, head.num_atoms), head


def build(config: Config) -> Parts:
    """Turns a configuration into functions.

    Raises:
      SettingError: where the environment, or what it needs, cannot be had.
    """
    env = build_env(config)
    network, head = build_model(config, env.spec)
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
