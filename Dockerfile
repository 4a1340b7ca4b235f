# purejaxdqn in a container, for a CPU or, with an extra, for NVIDIA GPUs (docs/install.md):
#
#   docker build -t purejaxdqn .
#   docker build -t purejaxdqn:cuda12 --build-arg EXTRA=cuda12 .
#   docker run --rm -v "$PWD/runs:/home/dqn/runs" purejaxdqn train --env CartPole-v1
#
# Paths are relative to the folder at hand, so that requirements/check_docker.sh can run the steps without an engine.
FROM python:3.12-slim AS build
WORKDIR /build
COPY . .
RUN python -m pip wheel --quiet --no-cache-dir --no-deps --wheel-dir wheels .

FROM python:3.12-slim
# One of the extras cuda12, cuda13, atari, gymnasium, wandb, or none: a CPU's.
ARG EXTRA=
WORKDIR /install
COPY requirements requirements
COPY --from=build /build/wheels wheels
RUN python -m pip install --quiet --no-cache-dir -r requirements/lock.txt ${EXTRA:+-r requirements/lock-$EXTRA.txt}
RUN python -m pip install --quiet --no-cache-dir --no-deps wheels/*.whl
# A run needs no rights but those over its own folder.
RUN useradd --create-home dqn && mkdir /home/dqn/runs && chown dqn /home/dqn/runs
USER dqn
WORKDIR /home/dqn
ENTRYPOINT ["purejaxdqn"]
CMD ["--help"]
