r"""How often the alignment scorer finds the right text, in both languages, for images that it was not trained on.

    python -m benchmarks.alignment          # minutes on one core; fetches the emoji art

  held-out styles    the demo's things in two styles that neither the scorer nor its features were trained on
  word-disjoint      everyday things outside of training whose names share no word or hanzi with its things
  two shapes         scenes of two drawn shapes, each among sentences with the colours or the sides swapped (of four)
Chance is 1 (5) in the number of candidates.
"""

import numpy as np
from absl import app, flags

from ernie_vilg_jax.evaluation.alignment.network import WEIGHTS, AlignmentNetwork
from ernie_vilg_jax.evaluation.alignment.recall import emoji_images, recall, unit, word_disjoint
from ernie_vilg_jax.evaluation.binding import drawn
from ernie_vilg_jax.evaluation.binding.nouns import Noun
from ernie_vilg_jax.evaluation.binding.renders import Render, scenes
from ernie_vilg_jax.evaluation.binding.sentences import INVERSE, sentences
from ernie_vilg_jax.evaluation.binding.sprites import STYLES

HELD_OUT = ("noto-v1", "fxemoji")
_WEIGHTS = flags.DEFINE_string("weights", str(WEIGHTS), "The scorer.")
_CHECKER = flags.DEFINE_string("checker", str(drawn.WEIGHTS), "The checker that it stands on.")
_SCENES = flags.DEFINE_integer("scenes", 500, "Scenes of two shapes.")
_SEED = flags.DEFINE_integer("seed", 30_000, "Of the scenes.")


def main(argv: list[str]) -> None:
    del argv
    network = AlignmentNetwork(_WEIGHTS.value, drawn.DrawnChecker(_CHECKER.value))
    things = [noun for noun in network.nouns if noun.emoji]
    print(f"{'test':34} {'lang':4} {'R@1':>6} {'R@5':>6} {'images':>7} {'of':>4}")
    for title, nouns, styles in (
        ("training styles", things, STYLES),
        ("held-out styles", things, HELD_OUT),
        ("word-disjoint, training styles", word_disjoint(network.nouns), STYLES),
    ):
        images, own = emoji_images(nouns, styles)
        for language, names in (("zh", [noun.zh for noun in nouns]), ("en", [noun.en for noun in nouns])):
            found = recall(network, images, names, own)
            print(line(title, language, found.first, found.fifth, found.images, found.candidates))
    names = {noun.en: noun for noun in network.nouns}
    pairs = [r for r in scenes("shapes", network.nouns, (), _SEED.value, 4 * _SCENES.value) if len(r.mentions) == 2]
    pairs = pairs[: _SCENES.value]
    vectors = unit(network([render.image for render in pairs]))
    for language in ("zh", "en"):
        right = []
        for vector, render in zip(vectors, pairs, strict=True):
            texts = wordings(render, names, language)
            right.append((unit(network.texts(texts)) @ vector).argmax() == 0)
        print(line("two shapes, swapped", language, float(np.mean(right)), float("nan"), len(pairs), 4))


def line(title: str, language: str, first: float, fifth: float, images: int, candidates: int) -> str:
    """A row of the table."""
    return f"{title:34} {language:4} {first:6.3f} {fifth:6.3f} {images:7} {candidates:4}"


def wordings(render: Render, names: dict[str, Noun], language: str) -> list[str]:
    """The right sentence, then those with swapped colours, inverted relation, and both."""
    first, second = render.mentions
    swapped = (first._replace(colour=second.colour), second._replace(colour=first.colour))
    sides = (render.relation, INVERSE[render.relation])
    cases = [(shown, side) for side in sides for shown in (render.mentions, swapped)]
    return [sentences(mentions, side, names)[language][0] for mentions, side in cases]


if __name__ == "__main__":
    app.run(main)
