"""Options of XLA's compiler: the one place where this project departs from its defaults, with the reason for each.

They reach the compiler with the program (`jax.jit(..., compiler_options=)`), so no environment variable is needed and
`aot` compiles with the same options. The compiler refuses unknown names. Its defaults, such as hiding the latency of
collectives behind computation, are not repeated here. Options that others set on pods are not copied unless they could
be compared here.
"""

from importlib.metadata import version

from jax.sharding import Mesh

TPU_OPTIONS: dict[str, str] = {
    # Otherwise parameters cut along `fsdp` would be multiplied piece by piece while they arrive, or while their
    # gradients leave (a "windowed einsum"): n small convolutions instead of one. See docs/tpu.md.
    "xla_jf_spmd_threshold_for_windowed_einsum_mib": "100000",
}

CPU_OPTIONS: dict[str, str] = {
    # Without YNNPACK: a training step on two cores takes a tenth less (benchmarks/NOTES.md). Later versions of jaxlib
    # may not know the name.
    **({"xla_cpu_experimental_ynn_fusion_type": ""} if version("jaxlib").startswith("0.10.") else {}),
}


def compiler_options(mesh: Mesh) -> dict[str, str] | None:
    """Options for a program that runs on `mesh`; None if there are none for its devices."""
    options = {"tpu": TPU_OPTIONS, "cpu": CPU_OPTIONS}.get(mesh.devices.flat[0].platform, {})
    return dict(options) or None
