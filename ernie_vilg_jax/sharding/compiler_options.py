"""Options of XLA's TPU compiler: the one place where this project departs from its defaults, each with the reason.

They go to the compiler with the program (`jax.jit(..., compiler_options=)`), so that they need no environment variable
and `aot` compiles with the same. The compiler refuses names that it does not know. What it does by default, such as
hiding the latency of collectives behind computation, is not repeated here, and of what peers set on pods nothing is
taken over that could not be compared here.
"""

from jax.sharding import Mesh

TPU_OPTIONS: dict[str, str] = {
    # Parameters cut along `fsdp` would otherwise be multiplied piece by piece while they come in or their gradients go
    # out (a "windowed einsum"): n small convolutions instead of one. See docs/tpu.md.
    "xla_jf_spmd_threshold_for_windowed_einsum_mib": "100000",
}


def compiler_options(mesh: Mesh) -> dict[str, str] | None:
    """Options for a program that runs on `mesh`; None where it is not of TPUs."""
    return dict(TPU_OPTIONS) if mesh.devices.flat[0].platform == "tpu" else None
