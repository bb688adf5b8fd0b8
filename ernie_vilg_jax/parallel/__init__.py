"""Meshes and sharding rules: where each array lives."""
