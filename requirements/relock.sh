#!/usr/bin/env bash
# Writes the lock files beside this script anew, from the dependencies in pyproject.toml.
#
#   requirements/relock.sh [PYTHON]      (default: python3.11, the lowest version supported)
#
# Nothing is installed: in a throw-away environment pip only resolves (--dry-run), so not even the
# CUDA wheels are downloaded. Each extra's lock holds what comes on top of lock.txt and is resolved under its pins;
# lock-dev.txt holds everything that the tests need, the packages of lock.txt included.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${1:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1

"$python" -m venv "$scratch/venv"

# wanted [EXTRA]: the requirements of pyproject.toml for the base install and, if named, one extra
wanted() {
  "$scratch/venv/bin/python" - "$@" <<'PY'
import sys
import tomllib

with open("pyproject.toml", "rb") as f:
    project = tomllib.load(f)["project"]
print(*project["dependencies"], sep="\n")
for extra in sys.argv[1:]:
    print(*project["optional-dependencies"][extra], sep="\n")
PY
}

# resolve OUT REQUIREMENTS [PIP OPTIONS]: `name==version` lines, sorted
resolve() {
  local out=$1 requirements=$2
  shift 2
  "$scratch/venv/bin/python" -m pip install -qq --dry-run --ignore-installed --only-binary=:all: \
    --report "$scratch/report.json" -r "$requirements" "$@"
  "$scratch/venv/bin/python" - "$scratch/report.json" >"$out" <<'PY'
import json
import sys

with open(sys.argv[1], encoding="utf-8") as f:
    found = [(item["metadata"]["name"], item["metadata"]["version"]) for item in json.load(f)["install"]]
for name, version in sorted(found, key=lambda pair: pair[0].lower().replace("_", "-")):
    print(f"{name}=={version}")
PY
}

header() {
  echo "# $1"
  echo "# Written by requirements/relock.sh; edit pyproject.toml and run that instead."
}

wanted >"$scratch/base.in"
resolve "$scratch/base" "$scratch/base.in"

wanted dev >"$scratch/dev.in"
resolve "$scratch/dev" "$scratch/dev.in" -c "$scratch/base"

extras="atari gymnasium craftax jumanji navix octax pgx xminigrid cuda12 cuda13 wandb optuna export minari docs"
for extra in $extras; do
  wanted "$extra" >"$scratch/$extra.in"
  # under the pins of the tests' lock, so that an extra never disagrees with it
  resolve "$scratch/$extra.all" "$scratch/$extra.in" -c "$scratch/dev"
  grep -vxFf "$scratch/base" "$scratch/$extra.all" >"$scratch/$extra"
done

{ header "What purejaxdqn needs to run."; cat "$scratch/base"; } >requirements/lock.txt
{ header "What the tests need, the packages of lock.txt included."; cat "$scratch/dev"; } >requirements/lock-dev.txt
for extra in $extras; do
  { header "What the extra '$extra' needs on top of lock.txt."; cat "$scratch/$extra"; } >"requirements/lock-$extra.txt"
done
wc -l requirements/lock*.txt
