"""How fast is the host loop, and how near to its slowest part? EnvPool alone, acting alone, learning alone, the whole.

python -m benchmarks.atari                                     # 8 to 64 environments, the default recipe's learner
python -m benchmarks.atari --num-envs 8 32 128 512 1024 --algo pqn --name atari-pqn

One environment step stands for four frames. Parts and loops take turns in every repetition, so that a noisy machine is
noisy for all; medians are what counts. The bound is the slowest of what can run side by side: the environments on one
side, the device (acting and learning) on the other.
"""

import argparse
import os
import statistics
import time
from typing import Any

from purejaxdqn.machine.devices import PLATFORMS, use_platform

WHAT = (
    "environment steps per second of EnvPool, of acting, of learning and of the whole loop, by number of environments"
)


def timed(fn: Any, *args: Any) -> float:
    """Seconds that a call takes until everything it computed is there."""
    import jax

    begin = time.perf_counter()
    jax.block_until_ready(fn(*args))
    return time.perf_counter() - begin


class Contender:
    """One configuration's loops and their parts, each with an environment of its own."""

    def __init__(
        self, env: str, algo: str | None, num_envs: int, updates: int | None, params: Any, more: dict[str, Any]
    ):
        import jax
        import numpy as np

        from purejaxdqn.build import build
        from purejaxdqn.loops.host import HostLoop
        from purejaxdqn.loops.host_functions import pack
        from purejaxdqn.recipes.recipes import default_recipe, make_settings

        config, hypers = make_settings(default_recipe(env), env, algo)
        changes: dict[str, Any] = {"num_envs": num_envs, "total_steps": 10**8, "env_params": params} | more
        if config.learner == "replay":
            changes = {"buffer_size": max(20_000, 40 * num_envs), "learning_starts": 16 * num_envs} | changes
            # As many updates for a step as the recipe makes.
            rate = config.updates_per_rollout / config.steps_per_iteration
            changes |= {"rollout_length": 1, "updates_per_rollout": updates or max(1, round(rate * num_envs))}
        self.config, self.h = config.replace(**changes), hypers.as_arrays()
        self.loops: dict[bool, HostLoop] = {}
        self.states: dict[bool, Any] = {}
        for overlap in (True, False):
            chosen = self.config.replace(overlap=overlap)
            loop = HostLoop(chosen, build(chosen), 0)
            self.loops[overlap] = loop
            self.states[overlap] = loop.begin(loop.init(jax.random.key(0), self.h), self.h, fill=True)
        loop = self.loops[True]
        self.functions, self.num_actions = loop.functions, loop.parts.env.spec.num_actions
        self.groups = range(loop.parts.env.num_groups)
        self.size = num_envs // len(self.groups)
        self.pool = loop.parts.env.open_pool(num_envs, 1, len(self.groups))
        self.pool.reset()
        for group in self.groups:
            self.packed = pack(self.pool.receive(group))
            self.pool.send(group, np.zeros(self.size, np.int32))
        state = self.states[True]
        self.actor, row = self.functions.receive(state.actors[0], self.packed)
        self.rows = (row,) * (self.config.rollout_length * len(self.groups))
        self.rng = np.random.default_rng(0)

    def environments(self, steps: int) -> float:
        """Seconds of a number of vector steps of EnvPool with random actions."""
        import numpy as np

        begin = time.perf_counter()
        for _ in range(steps):
            for group in self.groups:
                self.pool.receive(group)
                self.pool.send(group, self.rng.integers(0, self.num_actions, self.size).astype(np.int32))
        return time.perf_counter() - begin

    def acting(self, steps: int) -> float:
        """Seconds of bringing so many vector steps to the device and their actions back."""
        import numpy as np

        state = self.states[True]
        begin = time.perf_counter()
        for i in range(steps * len(self.groups)):
            actor, _ = self.functions.receive(self.actor, self.packed)
            act = self.functions.act
            np.asarray(act(state.learner.params, actor.obs, actor.explorer, state.key_data, self.h, i, i, 0)[0])
        return time.perf_counter() - begin

    def learning(self, steps: int) -> float:
        """Seconds of the learning that belongs to so many vector steps."""
        import jax
        import jax.numpy as jnp

        from purejaxdqn.learn import no_metrics

        phases = max(1, steps // self.config.rollout_length)
        state = self.states[False]
        total = jax.tree.map(jnp.copy, no_metrics())
        learner, memory = state.learner, state.memory
        begin = time.perf_counter()
        for _ in range(phases):
            learner, memory, total = self.functions.learn(learner, memory, total, self.rows, state.key_data, self.h)
        jax.block_until_ready(total)
        seconds = time.perf_counter() - begin
        self.states[False] = state.replace(learner=learner, memory=memory)
        return seconds * steps / (phases * self.config.rollout_length)

    def loop(self, overlap: bool, steps: int) -> float:
        """Seconds of the whole loop for so many vector steps."""
        begin = time.perf_counter()
        self.states[overlap], _ = self.loops[overlap].iterate(
            self.states[overlap], self.h, max(1, steps // self.config.rollout_length)
        )
        seconds = time.perf_counter() - begin
        return seconds * steps / (max(1, steps // self.config.rollout_length) * self.config.rollout_length)

    def close(self) -> None:
        """Ends all environments."""
        for group in self.groups:
            self.pool.receive(group)
        self.pool.close()
        for loop in self.loops.values():
            loop.close()


def measure(contender: Contender, seconds: float, repetitions: int) -> dict[str, Any]:
    """Every part and both loops by turns."""
    config = contender.config
    parts: dict[str, Any] = {
        "environments": contender.environments,
        "acting": contender.acting,
        "learning": contender.learning,
        "loop": lambda steps: contender.loop(True, steps),
        "loop in sequence": lambda steps: contender.loop(False, steps),
    }
    steps = {}
    for name, part in parts.items():
        # Compiles, and tells how many steps make a timing of the length asked for.
        part(config.rollout_length)
        once = part(2 * config.rollout_length) / 2
        steps[name] = (
            max(1, round(seconds * config.rollout_length / once / config.rollout_length)) * config.rollout_length
        )
    found: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(repetitions):
        for name, part in parts.items():
            found[name].append(part(steps[name]) / steps[name])
    medians = {name: statistics.median(values) for name, values in found.items()}
    rollout = config.learner == "rollout"
    device = medians["acting"] + medians["learning"]
    bound = max(medians["environments"], device)
    per_second = {name: round(config.num_envs / value, 1) for name, value in medians.items()}
    return {
        "num_envs": config.num_envs,
        "env_params": dict(config.env_params),
        "network": config.network,
        "hidden": config.hidden,
        "batch_size": config.steps_per_iteration // config.num_minibatches if rollout else config.batch_size,
        "updates_per_vector_step": config.updates_per_iteration / config.rollout_length,
        "steps_per_second": per_second,
        "bound_steps_per_second": round(config.num_envs / bound, 1),
        "slowest": "environments" if medians["environments"] >= device else "device",
        "fraction_of_bound": round(bound / medians["loop"], 3),
        "overlap_gain": round(medians["loop in sequence"] / medians["loop"], 3),
        "seconds_per_vector_step": {name: [round(v, 6) for v in values] for name, values in found.items()},
    }


def main() -> None:
    """Measures, writes the results and prints a line for each number of environments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="Pong-v5")
    parser.add_argument("--algo", help="algorithm (default: the default recipe's)")
    parser.add_argument("--num-envs", type=int, nargs="+", default=[8, 16, 32, 64])
    parser.add_argument("--updates", type=int, help="updates for each vector step (default: the recipe's rate)")
    parser.add_argument("--batch-size", type=int, help="of each update (default: the recipe's)")
    parser.add_argument(
        "--buffer-size", type=int, help="frames of the replay (default: 20,000, or 40 of each environment)"
    )
    parser.add_argument("--network", help="torso (default: the recipe's)")
    parser.add_argument("--hidden", type=int, nargs="+", help="widths of dense layers (default: the recipe's)")
    parser.add_argument("--num-threads", type=int, default=0, help="of EnvPool (default: one a core)")
    parser.add_argument("--xla-threads", type=int, help="of the learner on a CPU (default: two)")
    parser.add_argument("--num-groups", type=int, default=1, help="of environments, stepped by turns (default: 1)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of one timing (default: 2)")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--device", choices=PLATFORMS, default="auto")
    parser.add_argument("--name", default="atari", help="of the result file (default: atari)")
    parser.add_argument("--dry-run", action="store_true", help="print only")
    args = parser.parse_args()
    if args.xla_threads is not None:
        os.environ["NPROC"] = str(args.xla_threads)
    use_platform(args.device, 1, on_host=True)
    from benchmarks.common import write_result

    sizes = []
    chosen = {name: getattr(args, name) for name in ("batch_size", "buffer_size", "network", "hidden")}
    more = {name: value for name, value in chosen.items() if value is not None}
    params = (("num_groups", args.num_groups), ("num_threads", args.num_threads))
    for num_envs in args.num_envs:
        contender = Contender(args.env, args.algo, num_envs, args.updates, params, more)
        found = measure(contender, args.seconds, args.repetitions)
        contender.close()
        sizes.append(found)
        rates = ", ".join(f"{name} {rate:,.0f}" for name, rate in found["steps_per_second"].items())
        print(
            f"{num_envs:>5} environments: {rates} steps/s; {found['fraction_of_bound']:.0%} of the bound "
            f"({found['slowest']}), overlap {found['overlap_gain']:.2f} times",
            flush=True,
        )
        if not args.dry_run:
            write_result(args.name, WHAT, {"env": args.env, "algo": args.algo, "sizes": sizes})


if __name__ == "__main__":
    main()
