"""Networks and scorers by name, with the files of their weights from one place: `NAME=PATH` of the flag --weights."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from PIL import Image

from ernie_vilg_jax import registry
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation import statistics
from ernie_vilg_jax.evaluation.features import Network
from ernie_vilg_jax.evaluation.networks import NETWORKS, make_network
from ernie_vilg_jax.pipeline.rerank import Scorer

SCORERS: dict[str, str] = {
    "clip": "ernie_vilg_jax.evaluation.scorers:ClipScorer",
    "binding": "ernie_vilg_jax.evaluation.binding.scorer:BindingScorer",
    "alignment": "ernie_vilg_jax.evaluation.alignment.network:AlignmentScorer",
}
"""Scorer name -> "module:class". A scorer says how well images show their prompts."""


def paths_of(values: Sequence[str], flag: str = "weights") -> dict[str, str]:
    """{"clip": "FOLDER"} of ["clip=FOLDER"], the value of a flag. Raises UserError for anything else."""
    found = {}
    for value in values:
        name, _, path = value.partition("=")
        if not path or name not in NETWORKS:
            raise UserError(f"--{flag}={value} must be NAME=PATH, where NAME is one of {', '.join(NETWORKS)}")
        found[name] = path
    return found


def network(name: str, paths: Mapping[str, str]) -> Network:
    """The network `name`. Raises UserError if it needs a file that `paths` does not have, or that cannot be read."""
    return make_network(name, **_options("feature network", NETWORKS, name, paths))


def make_scorer(name: str, paths: Mapping[str, str] = MappingProxyType({})) -> Scorer:
    """The scorer `name`, which may be NAME=PATH, with the file of its weights. Raises UserError as `network` does."""
    name, _, path = name.partition("=")
    paths = {**paths, name: path} if path else paths
    return registry.build("scorer", SCORERS, name, _options("scorer", SCORERS, name, paths))


def _options(kind: str, names: Mapping[str, str], name: str, paths: Mapping[str, str]) -> dict[str, Any]:
    if name in names and name not in paths and registry.needs(names, name, "path"):
        raise UserError(f"{kind} {name!r} needs the file or folder of its weights: {name}=PATH")
    return {"path": paths[name]} if name in paths else {}


class ClipScorer:
    """The cosine of CLIP's features of image and prompt."""

    name = "clip"

    def __init__(self, path: str) -> None:
        self._clip: Any = make_network("clip", path=path)

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        features = self._clip([np.asarray(image.convert("RGB")) for image in images])
        distinct = list(dict.fromkeys(prompts))
        texts = self._clip.texts(distinct)
        return statistics.cosines(features, texts[[distinct.index(prompt) for prompt in prompts]])
