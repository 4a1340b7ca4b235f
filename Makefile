# make                what can be made
# make train          set-up from the lock if needed, then a DQN on CartPole-v1
# make test           set-up, lint, types and tests
# make test-quick     lint, types and the core's tests, after every change: under 90 s on two cores
# make test-suites    each suite in JAX, in an environment of its own with that extra alone; SUITES="pgx jumanji" for some
# make check-install  the wheel trains from another folder, and the sdist holds what its tests need; DIST=dist keeps both
# make check-docker   the steps of the Dockerfile, in an empty environment and without a container engine
# make bench-quick    is it slower than it was? ratios against a fixed plain loop, in under 3 minutes
# make docs           the site of these pages, in site/: index.html opens from the disk; make docs-serve follows changes
# make gpu-count      is a GPU asked to do more than it was? counted by XLA's compiler, without a GPU
#
# Variables: PYTHON=python3.12   the interpreter that makes the environment (3.11 or newer)
#            VENV=.venv          where the environment is
#            EXTRAS="cuda12"     extras to install as well: atari, gymnasium, cuda12, cuda13, wandb, optuna, export,
#                                minari, docs, or a suite in JAX
#            LOCK=no             the newest versions that pyproject.toml allows instead of the locked ones
#            ENV_NAME=CartPole-v1, ARGS="--seed 3 ..."   what `make train` trains on and its further options

PYTHON ?= python3
VENV ?= .venv
EXTRAS ?=
LOCK ?= yes
DIST ?=
DOCKER_EXTRA ?=
ENV_NAME ?= CartPole-v1
ARGS ?=
SUITES ?= craftax jumanji navix octax pgx xminigrid
# A file's tests in one process: what one of them compiled, the next one has.
PYTEST_ARGS ?= -n 2 --dist loadfile --no-loadscope-reorder -m "not learning and not long"
# The core: targets, losses, returns and heads, the ring, bounds, rooms, the project's pages. No loop and no command.
CORE := tests/test_architecture.py tests/test_bounds.py tests/docs/test_project_files.py tests/machine/test_shapes.py \
  tests/replay/test_ring.py tests/statistics $(addprefix tests/learning/test_,losses.py returns.py lambda_returns.py \
  heads_backups.py munchausen.py explore.py schedules.py optim.py)

export PIP_DISABLE_PIP_VERSION_CHECK = 1

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq

comma := ,
empty :=
space := $(empty) $(empty)
extras := $(sort $(subst $(comma), ,$(EXTRAS)))
extras_list := $(subst $(space),$(comma),$(extras))
extras_tag := $(if $(extras),-$(subst $(space),-,$(extras)))
extras_locks := $(extras:%=requirements/lock-%.txt)

# A stamp stands for a finished set-up; it is redone when the lock (or pyproject.toml) is newer.
made := $(VENV)/.made
ifeq ($(LOCK),no)
stale := $(VENV)/.locked-*
run_stamp := $(VENV)/.newest-run$(extras_tag)
dev_stamp := $(VENV)/.newest-dev$(extras_tag)
run_locks :=
dev_locks :=
install_run = $(PIP) --upgrade -e '.$(if $(extras),[$(extras_list)])'
install_dev = $(PIP) --upgrade -e '.[dev$(if $(extras),$(comma)$(extras_list))]'
else
stale := $(VENV)/.newest-*
run_stamp := $(VENV)/.locked-run$(extras_tag)
dev_stamp := $(VENV)/.locked-dev$(extras_tag)
run_locks := requirements/lock.txt $(extras_locks)
dev_locks := requirements/lock-dev.txt $(extras_locks)
install_run = $(PIP) $(addprefix -r ,$(run_locks)) && $(PIP) --no-deps -e .
install_dev = $(PIP) $(addprefix -r ,$(dev_locks)) && $(PIP) --no-deps -e .
endif

.PHONY: help setup setup-dev train test test-quick lint format types pytest test-learning test-suites docs docs-serve \
  bench-quick gpu-count relock check-install check-docker clean

help:
	@sed -n '/^#/!q;s/^# \{0,1\}//p' Makefile

$(made):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "purejaxdqn needs Python 3.11 or newer, and PYTHON=$(PYTHON) is not that: try 'make PYTHON=python3.12 ...'." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "$(PYTHON) could not make an environment: install its venv module (Debian: python3-venv)." >&2; exit 1; }
	@touch $@

$(run_stamp): $(made) pyproject.toml $(run_locks)
	@echo "Setting up $(VENV) ..."
	@rm -f $(stale)
	@$(install_run)
	@touch $@

$(dev_stamp): $(made) pyproject.toml $(dev_locks)
	@echo "Setting up $(VENV) for the tests ..."
	@rm -f $(stale)
	@$(install_dev)
	@touch $@

setup: $(run_stamp)

setup-dev: $(dev_stamp)

train: $(run_stamp)
	$(BIN)/python -m purejaxdqn.train --env $(ENV_NAME) $(ARGS)

# One after the other, whatever -j says: each line is one check, and the first that fails stops the rest.
test: $(dev_stamp)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-quick: $(dev_stamp)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 -m "not slow and not learning and not long" $(CORE)

lint: $(dev_stamp)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(dev_stamp)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(dev_stamp)
	$(BIN)/mypy

pytest: $(dev_stamp)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-learning: $(dev_stamp)
	$(BIN)/python -m pytest -m "learning or long"

# One environment for each: what one suite installs, another may overwrite.
test-suites:
	@for suite in $(SUITES); do \
	  $(MAKE) pytest VENV=$(VENV)-$$suite EXTRAS=$$suite PYTEST_ARGS="-n 0 tests/envs/test_suites.py" || exit 1; \
	done

# In an environment of its own, which has the package, so that pages can be made from it.
docs docs-serve:
	@$(MAKE) setup VENV=$(VENV)-docs EXTRAS=docs
	$(VENV)-docs/bin/python -m mkdocs $(if $(filter docs,$@),build,serve)

bench-quick: $(run_stamp)
	$(BIN)/python -m benchmarks.quick

gpu-count: $(run_stamp)
	$(BIN)/python -m benchmarks.gpu_count --check $(ARGS)

check-install: $(dev_stamp)
	requirements/check_install.sh $(abspath $(BIN)/python) $(DIST)

check-docker: $(made)
	requirements/check_docker.sh $(abspath $(BIN)/python) $(DOCKER_EXTRA)

relock:
	requirements/relock.sh

clean:
	rm -rf $(VENV) site .pytest_cache .mypy_cache .ruff_cache .hypothesis
