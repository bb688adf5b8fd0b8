"""Prompts to pictures: what the API, the command line, the notebooks and the web page all call.

pipe = ernie_vilg_jax.load()                      # the demo checkpoint that comes with the package
images = pipe(["一只猫", "a slice of pizza"], seed=1)

loading     checkpoint -> Pipeline, and what a checkpoint for sampling holds
requests    what a person asks for, checked, with the config's defaults
pictures    pictures and masks that a person gives -> arrays
asking      Pipeline: text to image, image to image, inpainting
programs    compiled programs, and saying when one is compiled
attention   where the model looks for a word
"""

from ernie_vilg_jax.pipeline.asking import Pipeline, Progress
from ernie_vilg_jax.pipeline.attention import AttentionMaps
from ernie_vilg_jax.pipeline.loading import DEMO, export, load

__all__ = ["DEMO", "AttentionMaps", "Pipeline", "Progress", "export", "load"]
