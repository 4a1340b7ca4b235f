"""How tests compile a program of which only the results matter."""

import jax


def unoptimised(fn):
    """`fn` jitted without optimisation, in a fraction of the time.

    Not for what is compared bit for bit with a program compiled as usual.
    """
    return jax.jit(
        fn, compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    )
