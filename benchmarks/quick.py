"""How XLA compiles programs that run once: optimising them takes longer than running them.

Level 0 halves the time of the tests. The older fusion emitters compile a training step in three quarters of the time,
and the preset, which computes fewer values in several fusions, in 85% of what is left.
"""

from importlib.metadata import version

KNOWN = version("jaxlib").startswith("0.10.")
"""Whether XLA has the flags of CPUs that are set here and in the tests: later ones refuse unknown flags."""
FOR_CPUS = "--xla_cpu_use_fusion_emitters=false --xla_cpu_opt_preset=CPU_OPT_PRESET_FAST_COMPILE"
XLA_FLAGS = f"--xla_backend_optimization_level=0 {FOR_CPUS if KNOWN else ''}"
