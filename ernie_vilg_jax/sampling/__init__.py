"""Sampling with a bank of experts: on one device, streamed, pipelined over a mesh, or step by step."""
