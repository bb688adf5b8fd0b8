"""What `aot` prints: the real programs, compiled by the TPU compiler for an absent TPU."""

NAMES = (
    *("autoencoder_step", "autoencoder_validation", "autoencoder_save"),
    *("statistics", "encoding"),
    *("base_step", "base_step_encoded", "base_validation", "base_preview", "base_evaluation", "base_save"),
    *("experts_step", "experts_step_encoded", "experts_validation", "experts_preview"),
    *("experts_evaluation", "experts_save", "sampling"),
)
"""What `programs.PROGRAMS` can build, in the order of a run. It is here so that reading it does not import jax."""

SIZED = (
    "encoding",
    *("base_step", "base_step_encoded", "base_validation", "base_preview"),
    *("experts_step", "experts_step_encoded", "experts_validation", "experts_preview"),
    "sampling",
)
"""Those that a run compiles for each of `config.data.sizes`."""
