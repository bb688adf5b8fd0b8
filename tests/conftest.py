"""Tests run on the CPU with eight pretended devices; both must be set before jax is imported anywhere."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8".strip()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from absl import flags

# Grain's worker processes read an absl flag, and absl refuses while no command has parsed its flags.
flags.FLAGS.mark_as_parsed()
