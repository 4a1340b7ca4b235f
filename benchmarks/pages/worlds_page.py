"""Tables of what was learnt of environments that step on the host, and of worlds that do not show everything."""

import numpy as np

from benchmarks.common import RESULTS, read_result
from benchmarks.pages.performance import number, table
from benchmarks.pages.tables import iqm_cell, source

# Young & Tian 2019, DQN after 5 million frames by the original rules, rounded.
YOUNG_AND_TIAN = {"asterix": 17, "breakout": 10, "freeway": 50, "seaquest": 20, "space_invaders": 45}


def worlds_table() -> str:
    """Seeds at the bar, one run for each, by environment: `benchmarks.host_worlds`."""
    rows, sources = [], []
    for name in sorted(path.stem for path in RESULTS.glob("world-*.json")):
        result = read_result(name)
        assert result is not None
        last, runs = result["last"], list(result["runs"].values())
        form = ",.2f" if result["bar"] < 10 else ",.1f"
        rows.append(
            [
                f"`{result['env']}`",
                f"{runs[0]['config']['total_steps']:,}",
                f"{last['seeds_at_bar']} of {len(runs)} at {result['bar']:g}",
                iqm_cell(last, form),
                number(last["min"], form),
            ]
        )
        sources.append(f"{source(result, name, '../')}<br>")
    heads = ["environment", "steps", "seeds at the bar", "IQM of their returns (95 %)", "lowest"]
    return table(heads, rows, *sources) if rows else ""


def minatar_table() -> str:
    """MinAtar by its original rules beside what its authors published: `benchmarks.family --env pgx/minatar-...`."""
    rows, sources = [], []
    for game, published in YOUNG_AND_TIAN.items():
        name = f"family-minatar-{game}"
        result = read_result(name)
        if result is None:
            continue
        for algo, found in result["algorithms"].items():
            last, steps = found["last"], f"{found['env_steps_per_seed']:,}"
            game_and_agent = [f"`{result['env']}`", f"`{algo}`"]
            rows.append([*game_and_agent, steps, iqm_cell(last), number(last["min"]), str(published)])
        sources.append(f"{source(result, name, '../')}<br>")
    heads = ["game", "agent", "steps", "IQM of last parameters (95 %)", "lowest", "Young & Tian's DQN, 5M frames"]
    return table(heads, rows, *sources) if rows else ""


def envpool_table() -> str:
    """What becomes of each of EnvPool's environments: `benchmarks.every_envpool`."""
    result = read_result("every_envpool")
    if result is None:
        return ""
    tried = result["trained"] + result["other"]
    rows = [[f"trained for 2,000 steps, of {tried} that were tried", f"{result['trained']:,}"]]
    rows += [[f"refused: {reason}", f"{count:,}"] for reason, count in result["refused"].items()]
    return table(["EnvPool's environments (three of Atari's games)", ""], rows, source(result, "every_envpool", "../"))


def memory_table() -> str:
    """Seeds at the bar of worlds that do not show everything, with a memory and without: `benchmarks.memory_worlds`."""
    result = read_result("memory_worlds")
    if result is None:
        return ""
    rows = []
    for name, agents in result["worlds"].items():
        for agent, found in agents.items():
            last, bar = found["last"], found["bar"]
            reached = f"{last['seeds_at_bar']} of {len(last['scores'])} at {bar['score']:g}"
            steps = f"{found['env_steps_per_seed']:,}"
            rows.append([f"`{name}`", agent, steps, reached, iqm_cell(last, ".2f")])
    heads = ["world", "agent", "steps", "seeds at the bar", "IQM of their returns (95 %)"]
    return table(heads, rows, source(result, "memory_worlds", "../"))


def hindsight_table() -> str:
    """How often goals are reached, with hindsight and without: `benchmarks.hindsight`."""
    result = read_result("hindsight")
    if result is None:
        return ""
    rows = []
    for name, agents in result["worlds"].items():
        for agent, found in agents.items():
            last = found["last"]
            steps, reached = f"{found['env_steps_per_seed']:,}", f"{last['seeds_at_bar']} of {len(last['scores'])}"
            rows.append([f"`{name}`", agent, steps, reached, iqm_cell(last, ".1%")])
    heads = ["environment", "agent", "steps", f"seeds at {result['bar']:.0%}", "IQM of their success rates (95 %)"]
    return table(heads, rows, source(result, "hindsight", "../"))


def offline_table() -> str:
    """Returns of what was learnt from data alone, by their quality: `benchmarks.offline --parts quality`."""
    result = read_result("offline")
    if result is None or "quality" not in result:
        return ""
    rows = []
    for env, found in result["quality"].items():
        for data in (name for name in found if name != "behind"):
            for learner, scores in found[data]["learners"].items():
                if learner == "cql_above_dqn":
                    low, high = scores["interval_95"]
                    rows.append([f"`{env}`", data, "CQL above DQN", f"{scores['mean']:.1f} ({low:.1f} to {high:.1f})"])
                else:
                    rows.append([f"`{env}`", data, learner, iqm_cell(scores)])
    heads = ["environment", "data", "learner", "IQM of greedy returns, or mean difference (95 %)"]
    return table(heads, rows, source(result, "offline", "../", "python -m benchmarks.offline --parts quality"))


def demonstrations_table() -> str:
    """Environment steps until MountainCar is solved, with demonstrations and without."""
    result = read_result("offline")
    if result is None or "demonstrations" not in result:
        return ""
    rows = []
    for name, arm in result["demonstrations"]["arms"].items():
        solved = [step for step in arm["solved_at"] if step is not None]
        steps = [step if step is not None else float("inf") for step in arm["solved_at"]]
        middle = float(np.median(steps))
        told = f"{middle:,.0f}" if np.isfinite(middle) else "–"
        rows.append([name, f"{len(solved)} of {len(steps)}", told])
    heads = ["demonstrations", "seeds that solve it", "median steps to solve it"]
    return table(heads, rows, source(result, "offline", "../", "python -m benchmarks.offline --parts demonstrations"))


def fqe_table() -> str:
    """What fitted Q evaluation says of policies beside what they reach when they play."""
    result = read_result("offline")
    if result is None or "fqe" not in result:
        return ""
    found = result["fqe"]
    rows = [["played", *map(number, found["played"])], ["valued", *map(number, found["valued"])]]
    heads = [f"Spearman's ρ {found['spearman']:.2f}", *map(str, range(1, len(found["played"]) + 1))]
    return table(heads, rows, source(result, "offline", "../", "python -m benchmarks.offline --parts fqe"))


TABLES = {"worlds": worlds_table, "minatar": minatar_table, "envpool": envpool_table, "memory": memory_table}
TABLES |= {
    "hindsight": hindsight_table,
    "offline": offline_table,
    "demonstrations": demonstrations_table,
    "fqe": fqe_table,
}
