"""How XLA compiles programs that run once: optimising them takes longer than running them.

Level 0 halves the time of the tests. The older fusion emitters compile a training step in three quarters of the time.
"""

from importlib.metadata import version

# Later versions refuse unknown flags.
_EMITTERS = " --xla_cpu_use_fusion_emitters=false" if version("jaxlib").startswith("0.10.") else ""
XLA_FLAGS = f"--xla_backend_optimization_level=0{_EMITTERS}"
