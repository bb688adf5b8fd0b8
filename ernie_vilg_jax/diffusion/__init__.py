"""Diffusion as functions of (x, t): schedules, stages, objective, guidance and samplers.

A network is always a function handed in, so nothing here knows of networks, data, devices or files.
"""
