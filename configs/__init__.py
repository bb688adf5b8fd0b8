"""Configs: numbers only. Installed as `ernie_vilg_jax.configs`, so that `--config=demo:base` works everywhere."""
