"""Flax modules of ERNIE-ViLG 2.0: arrays in, arrays out. They know nothing of data, meshes, files or flags."""
