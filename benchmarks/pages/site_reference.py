"""The site's reference: a page for every public name, made from its docstring, and one that lists them all."""

import ast
from pathlib import Path

import purejaxdqn

PACKAGE = Path(purejaxdqn.__file__).parent
GROUPS: dict[str, tuple[str, ...]] = {
    "Runs": (
        *("config.Config", "types.Hypers", "bounds.SettingError", "loops.device.make_train", "loops.device.make_agent"),
        *("loops.device.Agent", "types.State", "types.Learner", "types.Metrics", "types.lane_axes"),
    ),
    "Recipes and algorithms": (
        *("recipes.recipes.make_settings", "recipes.recipes.RECIPES", "recipes.recipes.Recipe"),
        *("recipes.algorithms.ALGORITHMS", "recipes.algorithms.Algorithm"),
    ),
    "Policies": ("runs.policy.load_policy", "runs.policy.Policy"),
    "Environments": (
        *("envs.single.batch_env", "check.command.check_env", "check.checks.Finding", "bounds.EnvSpec"),
        *("envs.interface.Env", "envs.interface.HostEnv", "envs.interface.Pool", "envs.interface.HostStep"),
        "types.Row",
    ),
    "Parts of your own": (
        *("build.register", "networks.whole.whole_network", "networks.qnetwork.Network", "networks.windows.Window"),
        *("types.Dist", "types.Outputs", "learning.heads.Head", "learning.backups.Backup"),
        *("learning.explorers.Explorer", "replay.interface.Replay", "replay.interface.Store", "runs.hooks.Logged"),
    ),
    "Targets and losses": (
        *("learning.losses.td_target", "learning.losses.double_td_target", "learning.losses.td_error"),
        *("learning.losses.huber", "learning.losses.squared_error"),
        *("learning.distributional.categorical_l2_projection", "learning.distributional.quantile_huber"),
        *("learning.returns.n_step_fold", "learning.returns.lambda_returns", "types.Transition"),
    ),
    "Exploration and updates": (
        *("learning.explore.epsilon_greedy", "learning.schedules.linear_schedule"),
        *("learning.schedules.exponential_schedule", "learning.schedules.constant_schedule"),
        *("learning.optim.hard_update", "learning.optim.soft_update", "learning.optim.periodic_update"),
    ),
    "Replay": (
        *("replay.ring.Ring", "replay.ring.init_ring", "replay.ring.add_rows", "replay.ring.read_rows"),
        "replay.ring.sample_starts",
    ),
    "The package": ("__version__",),
}
"""Every public name by where it is defined: what `purejaxdqn` exports, and the records that the seams are made of."""


def names() -> list[str]:
    """All of them."""
    return [name for group in GROUPS.values() for name in group]


def page_of(name: str) -> str:
    """Where a name's page is in the site."""
    return f"reference/{name.rpartition('.')[2].strip('_')}.md"


def docstring_of(name: str) -> str:
    """The docstring of a function, a class or a value, read from the source; empty where it has none."""
    module, _, last = name.rpartition(".")
    path = PACKAGE / f"{module.replace('.', '/') or '__init__'}.py"
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for node, after in zip(body, [*body[1:], ast.Pass()], strict=True):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == last:
            return ast.get_docstring(node) or ""
        named: ast.expr | None = None
        if isinstance(node, ast.Assign | ast.AnnAssign):
            named = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
        if isinstance(named, ast.Name) and named.id == last:
            said = after.value if isinstance(after, ast.Expr) else None
            return str(said.value) if isinstance(said, ast.Constant) and isinstance(said.value, str) else ""
    raise KeyError(f"purejaxdqn.{name} is not defined in {path}")


def is_value(name: str) -> bool:
    """Whether it is neither a function nor a class."""
    return name.rpartition(".")[2].isupper() or name == "__version__"


def page(name: str) -> str:
    """The page of one name."""
    last = name.rpartition(".")[2]
    options = "\n    options:\n      show_attribute_values: false\n" if is_value(name) else "\n"
    return f"# `{last}`\n\n::: purejaxdqn.{name}{options}"


def index() -> str:
    """The page of all names."""
    lines = [
        "# Reference\n",
        "Every public name, from its docstring: shapes stand in brackets (`[B, A]`: a batch by actions), errors under "
        "*Raises*, and the source is at the end of each page. What `purejaxdqn` itself exports is marked with •; the "
        "others are imported from where they are defined.\n",
    ]
    for title, group in GROUPS.items():
        lines += [f"\n## {title}\n", "| name | from | what |", "|---|---|---|"]
        for name in group:
            module, _, last = name.rpartition(".")
            mark = "•" if last in purejaxdqn.__all__ else ""
            first = " ".join(docstring_of(name).split("\n\n")[0].split()).replace("|", "\\|")
            home = f"purejaxdqn.{module}".rstrip(".")
            lines.append(f"| [`{last}`]({page_of(name).removeprefix('reference/')}) {mark} | `{home}` | {first} |")
    return "\n".join(lines) + "\n"


def navigation() -> list[str | dict[str, list[str]]]:
    """The reference in the navigation: the list, and the groups with their pages."""
    return ["reference/index.md", *({title: [page_of(name) for name in group]} for title, group in GROUPS.items())]


def pages() -> dict[str, str]:
    """The text of every page, by its place in the site."""
    return {"reference/index.md": index()} | {page_of(name): page(name) for name in names()}
