"""Diffusion as functions of (x, t): schedules, stages, objective, guidance and samplers.

A network is always a function argument, so nothing here knows about networks, data, devices or files.
"""
