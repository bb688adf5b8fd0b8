"""The metrics: names to scores with their 95% intervals. A new one is a class here and a line in METRICS.

| metric | of what | network |
| --- | --- | --- |
| fid, kid | fidelity and diversity, against real images | inception |
| fd_dinov2 | the same, closer to what people see (https://arxiv.org/abs/2306.04675) | dinov2 |
| cmmd | the same with few images (https://arxiv.org/abs/2401.09603) | clip |
| precision, recall, density, coverage (`neighbourhoods`) | fidelity and diversity, apart | inception |
| frechet_efficientnet, kid_efficientnet | fidelity and diversity where no other weights are at hand | efficientnet |
| clip_score, r_precision | whether an image shows its prompt | clip |
| alignment | whether an image shows its prompt, in the domain of the demo; it is not CLIP | a network of its own |
| binding | whether it shows the objects, colours, relations and counts of its prompt | a checker of its own |
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation import statistics
from ernie_vilg_jax.evaluation.features import Network, features_of
from ernie_vilg_jax.evaluation.image_sets import ImageSet, OfPrompts
from ernie_vilg_jax.evaluation.statistics import Interval, mean_interval, spread_interval
from ernie_vilg_jax.pipeline.prompts import Prompt


@dataclass(frozen=True)
class Score:
    """A number, its 95% interval, and what it is of.

    Attributes:
      metric: its name, such as "fid" or "clip_score".
      group: the images it is of: "" for all, or "zh", "en", "category color".
      count: images.
    """

    metric: str
    value: float
    low: float
    high: float
    count: int
    group: str = ""


class Reference:
    """Real images, and what is computed of them once for all images that are compared with them."""

    def __init__(self, images: ImageSet, networks: Mapping[str, Network], folder: Path | None = None) -> None:
        self.images = images
        self.networks = networks
        self.folder = folder
        self._features: dict[str, np.ndarray] = {}
        self._moments: dict[str, tuple[statistics.Moments, np.ndarray]] = {}

    def features(self, network: str) -> np.ndarray:
        """[M, D]"""
        if network not in self._features:
            self._features[network] = features_of(self.networks[network], self.images, self.folder)
        return self._features[network]

    def moments(self, network: str) -> tuple[statistics.Moments, np.ndarray]:
        """With the square root of the covariance."""
        if network not in self._moments:
            moments = statistics.moments(self.features(network))
            self._moments[network] = moments, statistics.square_root(moments.covariance)
        return self._moments[network]


class Evidence:
    """What metrics may look at; features are computed at their first use.

    Attributes:
      by_image: values [N] of each image by the name of a score, as metrics compute them; NaN where there is none.

    Args:
      made: the images to judge, with their prompts.
      reference: the real images; None without.
      networks: by the names that metrics ask for.
      folder: where features are kept; None keeps none.
    """

    def __init__(
        self,
        made: OfPrompts,
        reference: Reference | None,
        networks: Mapping[str, Network],
        folder: Path | None = None,
    ) -> None:
        self.made = made
        self.reference = reference
        self.networks = networks
        self.folder = folder
        self.by_image: dict[str, np.ndarray] = {}
        self._known: dict[tuple[str, str], Any] = {}

    def once(self, kind: str, name: str, compute: Callable[[], Any]) -> Any:
        """What `compute` returned at the first call with this kind and name."""
        if (kind, name) not in self._known:
            self._known[kind, name] = compute()
        return self._known[kind, name]

    def features(self, network: str) -> np.ndarray:
        """[N, D] of the images to judge."""
        return self.once("made", network, lambda: features_of(self.networks[network], self.made.images, self.folder))

    def real(self, network: str) -> np.ndarray:
        """[M, D] of the real images."""
        assert self.reference is not None
        return self.reference.features(network)

    def real_moments(self, network: str) -> tuple[statistics.Moments, np.ndarray]:
        """Of the real images, with the square root of the covariance."""
        assert self.reference is not None
        return self.reference.moments(network)

    def texts(self, network: str) -> np.ndarray:
        """[P, D] of all prompts."""
        tower: Any = self.networks[network]
        words = [prompt.text for prompt in self.made.prompts]
        return self.once("texts", network, lambda: tower.texts(words))

    @cached_property
    def groups(self) -> dict[str, np.ndarray]:
        """The images [n] of each group: "", the languages if there are several, the categories."""
        prompts = self.made.prompts
        languages, categories = ({getattr(one, name) for one in prompts} for name in ("language", "category"))
        kinds: list[tuple[str, Callable[[Prompt], bool]]] = []
        if len(languages) > 1:
            kinds += [(name, lambda one, name=name: one.language == name) for name in sorted(languages)]
        for name in sorted(categories - {""}):
            kinds.append((f"category {name}", lambda one, name=name: one.category == name))
        found = {"": np.arange(len(self.made.own))}
        for name, belongs in kinds:
            mine = np.array([belongs(one) for one in prompts])
            found[name] = np.flatnonzero(mine[self.made.own])
        return found


class Metric(Protocol):
    """One or more scores of a set of images.

    Attributes:
      networks: names of the networks it needs.
      compares: whether it needs real images.
    """

    @property
    def networks(self) -> Sequence[str]: ...

    @property
    def compares(self) -> bool: ...

    def __call__(self, name: str, evidence: Evidence) -> list[Score]: ...


def _score(name: str, interval: Interval, count: int, group: str = "") -> Score:
    return Score(name, *interval, count, group)


@dataclass(frozen=True)
class ByNetwork:
    """What metrics that look at the features of one network have in common."""

    network: str

    @property
    def networks(self) -> Sequence[str]:
        return (self.network,)

    @property
    def compares(self) -> bool:
        return False


class Compared(ByNetwork):
    """The same of metrics that compare with real images."""

    @property
    def compares(self) -> bool:
        return True


@dataclass(frozen=True)
class Frechet(Compared):
    """The Frechet distance of features to those of the real images."""

    def __call__(self, name: str, evidence: Evidence) -> list[Score]:
        features = np.asarray(evidence.features(self.network), np.float64)
        real, root = evidence.real_moments(self.network)
        distance = lambda rows: statistics.frechet_distance(features[rows], real, root)  # noqa: E731
        return [_score(name, spread_interval(distance, evidence.made.own), len(features))]


@dataclass(frozen=True)
class KernelDistance(Compared):
    """The unbiased kernel distance of features to those of the real images."""

    kernel: statistics.Kernel = statistics.polynomial_kernel
    normalised: bool = False
    factor: float = 1.0

    def __call__(self, name: str, evidence: Evidence) -> list[Score]:
        made, real = evidence.features(self.network), evidence.real(self.network)
        if self.normalised:
            made, real = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (made, real))
        value, error = (self.factor * number for number in statistics.kernel_distance(made, real, self.kernel))
        return [_score(name, Interval(value, value - 1.96 * error, value + 1.96 * error), len(made))]


@dataclass(frozen=True)
class Neighbourhoods(Compared):
    """Precision, recall, density and coverage."""

    nearest: int = 5

    def __call__(self, name: str, evidence: Evidence) -> list[Score]:
        made, real = evidence.features(self.network), evidence.real(self.network)
        scores = []
        for field in statistics.Coverage._fields:

            def share(rows: np.ndarray, field: str = field) -> float:
                return getattr(statistics.neighbourhoods(made[rows], real, self.nearest), field)

            scores.append(_score(field, spread_interval(share, evidence.made.own, draws=10), len(made)))
        return scores


@dataclass(frozen=True)
class ClipScore(ByNetwork):
    """100 times the cosine between an image and its prompt, at least 0 (https://arxiv.org/abs/2104.08718).

    With another network than CLIP it has another name, because its values mean something else.
    """

    def __call__(self, name: str, evidence: Evidence) -> list[Score]:
        own = evidence.made.own
        values = 100 * statistics.cosines(evidence.features(self.network), evidence.texts(self.network)[own]).clip(0)
        return per_image(name, values, evidence)


@dataclass(frozen=True)
class RPrecision(ByNetwork):
    """The share of images that are nearer to their prompt than to 99 others (https://arxiv.org/abs/1711.10485)."""

    candidates: int = 100

    def __call__(self, name: str, evidence: Evidence) -> list[Score]:
        texts, own = evidence.texts(self.network), evidence.made.own
        # A prompt that is there twice would be its own rival.
        words = [prompt.text for prompt in evidence.made.prompts]
        places = {word: place for place, word in enumerate(dict.fromkeys(words))}
        distinct = np.array([words.index(word) for word in places])
        mine = np.array([places[words[prompt]] for prompt in own])
        candidates = min(self.candidates, len(distinct))
        right = statistics.r_precision(evidence.features(self.network), texts[distinct], mine, candidates, seed=0)
        return per_image(name, right, evidence)


@dataclass(frozen=True)
class Binding:
    """The share of images that show all that their prompt says, and the share of right facts of each kind.

    Of images whose prompts the binding checker understands (docs/evaluation_binding.md); the others are left out.
    """

    compares: bool = False

    @property
    def networks(self) -> Sequence[str]:
        return ()

    def __call__(self, name: str, evidence: Evidence) -> list[Score]:
        from ernie_vilg_jax.evaluation.binding.shares import shares

        found = shares(evidence.made)
        return [one for kind in found for one in per_image(f"{name}_{kind}".rstrip("_"), found[kind], evidence)]


def per_image(name: str, values: np.ndarray, evidence: Evidence) -> list[Score]:
    """The mean of a value [N] of each image over all images and over each group; NaN where it says nothing."""
    evidence.by_image[name] = values
    scores = []
    for group, rows in evidence.groups.items():
        rows = rows[np.isfinite(values[rows])]
        if len(rows):
            scores.append(_score(name, mean_interval(values[rows], evidence.made.own[rows]), len(rows), group))
    return scores


METRICS: dict[str, Metric] = {
    "fid": Frechet("inception"),
    "kid": KernelDistance("inception"),
    "neighbourhoods": Neighbourhoods("inception"),
    "fd_dinov2": Frechet("dinov2"),
    "cmmd": KernelDistance("clip", statistics.gaussian_kernel, normalised=True, factor=1000.0),
    "frechet_efficientnet": Frechet("efficientnet"),
    "kid_efficientnet": KernelDistance("efficientnet"),
    "clip_score": ClipScore("clip"),
    "r_precision": RPrecision("clip"),
    "binding": Binding(),
    "alignment": ClipScore("alignment"),
}


def chosen(names: Sequence[str], flag: str = "metrics") -> dict[str, Metric]:
    """The metrics of names. Raises UserError, naming the flag, for an unknown one."""
    for name in names:
        if name not in METRICS:
            raise UserError(f"--{flag}: {name!r} is not known: choose from {', '.join(METRICS)}")
    return {name: METRICS[name] for name in names}


def higher_is_better(names: Sequence[str]) -> frozenset[str]:
    """Those of the metrics' scores that are better if they are higher: all but the distances."""
    scores = {field for name in names if name == "neighbourhoods" for field in statistics.Coverage._fields}
    return frozenset(scores | {name for name, metric in chosen(names).items() if not metric.compares})


def judge(names: Sequence[str], evidence: Evidence) -> list[Score]:
    """All scores of the metrics, in order."""
    return [score for name, metric in chosen(names).items() for score in metric(name, evidence)]
