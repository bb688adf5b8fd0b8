"""What `aot` prints: the real programs, compiled by the TPU's compiler for a TPU that is not there."""
