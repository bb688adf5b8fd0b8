"""Prompts to images: the library behind the API, the command line, the notebooks and the web page.

pipe = ernie_vilg_jax.load()                      # the demo checkpoint that comes with the package
images = pipe(["一只猫", "a slice of pizza"], seed=1)

pipeline          Pipeline: text to image, image to image, inpainting
from_checkpoint   checkpoint -> Pipeline, and the export of a checkpoint for sampling
results           the images of a call, and its progress
call              the arguments of a call
given             the images and masks of a call
familiar          arguments by their names in diffusers
request           a user's request, checked, with the config's defaults
remake            a request from the settings inside an image
runner            compiled programs, and log lines when one is compiled
styles            words appended to prompts
languages         prompts in other languages
translate         translators of transformers
attention_maps    attention maps of a word
"""

from ernie_vilg_jax.pipeline.attention_maps import AttentionMaps
from ernie_vilg_jax.pipeline.from_checkpoint import DEMO, export, load
from ernie_vilg_jax.pipeline.pipeline import Pipeline
from ernie_vilg_jax.pipeline.results import Images, Progress

__all__ = ["DEMO", "AttentionMaps", "Images", "Pipeline", "Progress", "export", "load"]
