#!/usr/bin/env bash
# Runs the steps of the Dockerfile in an empty environment, where no container engine is, and trains with what they made.
#
#   requirements/check_docker.sh PYTHON [EXTRA]      (python3.12, as in the image, or another one)
#
# Each RUN line is run as it stands, in one folder with what its COPY lines would bring; but the one that adds a user.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=$1
export EXTRA=${2:-} PIP_DISABLE_PIP_VERSION_CHECK=1 JAX_PLATFORMS=cpu
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"$python" -m venv "$scratch/venv"
export PATH=$scratch/venv/bin:$PATH XDG_CACHE_HOME=$scratch/cache
mkdir "$scratch/image"
git ls-files -z | xargs -0 cp --parents -t "$scratch/image"
steps=$(sed -n 's/^RUN //p' Dockerfile | grep -v '^useradd ')
cd "$scratch/image"
echo "$steps" | while read -r step; do
  echo "RUN $step"
  bash -euc "$step" </dev/null
done
# The image has no checkout beside what was installed.
mkdir "$scratch/home" && cd "$scratch/home"
purejaxdqn --version
purejaxdqn train --env CartPole-v1 --total-steps 4000 --eval-episodes 5 --quiet --out runs/first
test -f runs/first/summary.json && purejaxdqn show runs/first
