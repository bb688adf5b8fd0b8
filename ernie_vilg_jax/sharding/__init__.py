"""Meshes, processes and sharding rules: where each array lives."""
