"""How XLA compiles programs that run once: optimising them takes longer than running them.

Level 0 halves the time of the tests. The older fusion emitters compile a training step in three quarters of the time.
"""

from importlib.metadata import version

KNOWN = version("jaxlib").startswith("0.10.")
"""Whether XLA has the flags of CPUs that are set here and in the tests: later ones refuse unknown flags."""
XLA_FLAGS = "--xla_backend_optimization_level=0" + (" --xla_cpu_use_fusion_emitters=false" if KNOWN else "")
