"""Scores of text-to-image models: how good the images look, and whether they show what the prompt says.

From the bottom up: `statistics` (functions of features), `networks` and `features` (images to features), `prompts`
(files of prompts), `metrics` (names to scores), `evaluate` (images of a checkpoint, or of any folder, to a table).
"""
