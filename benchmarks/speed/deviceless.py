"""Compiling for an accelerator that is not here: XLA's compilers for GPUs and TPUs need their package, and no device.

h100.txtpb beside this file is what the compiler is told of an NVIDIA H100 with 80 GB: XLA's own description, as it is
dumped where there is one. Peers' environments run this module, so it needs JAX alone.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jax
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from benchmarks.speed.thunks import count_program, count_trip, read_program

DEVICES = ("h100", "tpu")
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
"""What devices tell each other; an operation that is begun and waited for is counted by its beginning."""
COUNTED = ("ops", "graphs", "waits", "copies", "ring_copies", "all_in_one", "bytes")
ONE_GRAPH = {
    # What `+WHILE` makes of XLA's default: as an option of one compilation the whole list has to be said.
    "xla_gpu_enable_command_buffer": (
        "CONDITIONAL,CUBLAS,CUBLASLT,CUDNN,CUSTOM_CALL,DYNAMIC_SLICE_FUSION,FUSION,WHILE"
    ),
    "xla_gpu_graph_min_graph_size": 1,
}
"""XLA's flags with which a loop and all that is in it become one CUDA graph."""
WHOLE_PRODUCTS = {"xla_gpu_experimental_force_split_k": 1}
"""By default XLA cuts products of small matrices into parts, whose sum, and often a padding, are more kernels."""


class Call(NamedTuple):
    """A function, the shapes that it is called with, and which of these are donated."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    donated: tuple[int, ...] = ()


def described(name: str) -> list[Any]:
    """The devices of one machine that is not here, by its name in `DEVICES`: an H100, or the four of a TPU v5e."""
    os.environ |= {"JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1", "TPU_SKIP_MDS_QUERY": "1"}
    jax.config.update("jax_platforms", "cpu")
    if name == "tpu":
        return list(topologies.get_topology_desc("v5e:2x2", "tpu").devices)
    text = (Path(__file__).parent / f"{name}.txtpb").read_text()
    return list(topologies.get_topology_desc(name, "cuda", target_config=text, topology="1x1x1").devices)


def traced_for(device: Any) -> Any:
    """A context in which what is asked for a platform is the device's, not this process's."""
    platform = {"cuda": "gpu"}.get(device.platform, device.platform)
    return mock.patch.object(jax, "default_backend", lambda: platform)


def lower(call: Call, device: Any) -> Any:
    """The program for a device, before XLA's compiler."""
    on = SingleDeviceSharding(device)
    arguments = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=on), call.arguments)

    def counted(*arguments: Any) -> Any:
        return call.function(*arguments)

    with traced_for(device):
        return jax.jit(counted, donate_argnums=call.donated).lower(*arguments)


def count_on_gpu(
    lowered: Any, trip: bool, flags: dict[str, Any], ring: set[int], updates: int = 1, cache: str | None = None
) -> dict[str, int]:
    """What a program does on a GPU: `COUNTED`, and bytes of temporaries.

    Args:
      lowered: the program.
      trip: whether one trip of its outermost loop is counted, in place of all of it.
      flags: of XLA.
      ring: bytes of the replay's large arrays.
      updates: of a learning phase, whose number XLA may not know.
      cache: file in which compiled kernels are kept for programs that have the same ones.
    """
    kept = {"xla_gpu_kernel_cache_file": cache, "xla_gpu_enable_llvm_module_compilation_parallelism": True}
    with tempfile.TemporaryDirectory() as folder:
        dump = {"xla_dump_to": folder, "xla_dump_hlo_module_re": "jit_counted"}
        compiled = lowered.compile(compiler_options={**dump, **flags, **(kept if cache else {})})
        found = (count_trip if trip else count_program)(read_program(Path(folder), updates), ring)
    return {**{name: found[name] for name in COUNTED}, "temporaries": compiled.memory_analysis().temp_size_in_bytes}


def count_on_tpu(lowered: Any) -> dict[str, float]:
    """What a program is on a TPU, where instructions are not launched one by one: seconds of compiling, and memory."""
    begin = time.perf_counter()
    compiled = lowered.compile()
    seconds, memory = time.perf_counter() - begin, compiled.memory_analysis()
    text = compiled.as_text()
    collectives = sum(text.count(f" {name}(") + text.count(f" {name}-start(") for name in COLLECTIVES)
    found = {"copies": text.count(" copy("), "collectives": collectives, "temporaries": memory.temp_size_in_bytes}
    return {"compile_seconds": round(seconds, 1), **found, "arguments": memory.argument_size_in_bytes}
