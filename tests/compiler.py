"""Flags of XLA under which what runs once or twice is compiled fast; to be set before jax is imported."""

from importlib.metadata import version

# Optimising code that runs once takes longer than running it: level 0 halves the time of the tests.
FAST = "--xla_backend_optimization_level=0"
if version("jaxlib").startswith("0.10."):  # later ones refuse unknown flags
    # The older fusion emitters compile a training step in half the time.
    FAST += " --xla_cpu_use_fusion_emitters=false"
    # Two workers have two cores: neither compiles parts of a program in parallel, nor schedules for more cores.
    FAST += " --xla_cpu_parallel_codegen_split_count=1 --xla_cpu_enable_concurrency_optimized_scheduler=false"
