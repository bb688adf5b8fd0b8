"""Prompts to images: what the API, the command line, the notebooks and the web page all call.

pipe = ernie_vilg_jax.load()                      # the demo checkpoint that comes with the package
images = pipe(["一只猫", "a slice of pizza"], seed=1)

pipeline          Pipeline: text to image, image to image, inpainting
from_checkpoint   checkpoint -> Pipeline, and what a checkpoint for sampling holds
request           what a user asks for, checked, with the config's defaults
runner            compiled programs, and saying when one is compiled
translate         prompts in other languages
attention_maps    where the model looks for a word
"""

from ernie_vilg_jax.pipeline.attention_maps import AttentionMaps
from ernie_vilg_jax.pipeline.from_checkpoint import DEMO, export, load
from ernie_vilg_jax.pipeline.pipeline import Pipeline, Progress

__all__ = ["DEMO", "AttentionMaps", "Pipeline", "Progress", "export", "load"]
