#!/usr/bin/env bash
# Builds wheel and sdist and uses them as others do: the wheel, in an empty environment, trains from another folder;
# the sdist holds every file of git, its tests are found, and those that read pages and results pass.
#
#   requirements/check_install.sh PYTHON [DIST]      (an interpreter that has what requirements/lock-dev.txt lists)
#
# Both are put into DIST once they have passed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=$1
root=$PWD
dist=${2:+$(realpath -m "$2")}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1 JAX_PLATFORMS=cpu XDG_CACHE_HOME=$scratch/cache

"$python" -m venv "$scratch/build"
"$scratch/build/bin/python" -m pip install -qq "$(sed -n 's/^requires = \["\(.*\)"\]$/\1/p' pyproject.toml)"
"$scratch/build/bin/python" -m pip wheel -qq --no-deps --wheel-dir "$scratch/dist" .
"$scratch/build/bin/python" -m hatchling build -t sdist -d "$scratch/dist"

echo "The wheel, from another folder:"
"$python" -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip install -qq -c requirements/lock.txt "$scratch"/dist/*.whl
mkdir "$scratch/elsewhere"
cd "$scratch/elsewhere"
purejaxdqn() { "$scratch/venv/bin/purejaxdqn" "$@"; }
purejaxdqn --version
"$scratch/venv/bin/purejaxdqn-train" --env CartPole-v1 --total-steps 4k --eval-episodes 5 --quiet --out run
test -f run/summary.json && ls run
purejaxdqn evaluate run --episodes 5
purejaxdqn report run && test -f run/report.html
purejaxdqn doctor run --episodes 2
purejaxdqn show run
purejaxdqn list recipes cartpole

echo "The sdist:"
tar -xzf "$scratch"/dist/*.tar.gz -C "$scratch"
cd "$scratch"/purejaxdqn-*/
missing=$(git -C "$root" ls-files | while read -r file; do test -e "$file" || echo "$file"; done)
test -z "$missing" || { echo "Files that git has and the sdist lacks: $missing" >&2; exit 1; }
PYTHONPATH=$PWD "$python" -m pytest -o addopts=--strict-markers --collect-only -q | tail -n 1
PYTHONPATH=$PWD "$python" -m pytest -m "not slow and not learning and not long" tests/docs tests/test_architecture.py tests/test_build.py
if [ -n "$dist" ]; then
  mkdir -p "$dist"
  cp "$scratch"/dist/* "$dist"
fi
