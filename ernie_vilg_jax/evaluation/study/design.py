"""The trials of each rater: blind, seeded, with balanced sides and orders. NumPy; no database, no images.

Rater k's trials depend on (seed, k) alone, so they are the same on any machine and whoever joins first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

ASPECTS = ("alignment", "fidelity")
"""What is asked of each trial, in this order: which shows the prompt better, and which looks better."""
CHOICES = ("left", "same", "right")


@dataclass(frozen=True)
class Side:
    """The pictures of an item by a model, both by their numbers."""

    item: int
    model: int


@dataclass(frozen=True)
class Trial:
    """Two sets of pictures and the prompt that they are compared on.

    Attributes:
      kind: "practice" (with feedback, not counted), "check" (of attention: one side shows another prompt) or "study".
      item: of the prompt.
      left, right: what is shown; on a phone the left one is on top.
      expected: the right choice for each aspect; "" where there is none.
    """

    kind: str
    item: int
    left: Side
    right: Side
    expected: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Design:
    """How a study is laid out.

    Attributes:
      items: numbers of the prompts.
      models: numbers of the models; each pair of them is compared.
      categories: of each item; a check shows an item of another category if there is one.
      practice: trials that each rater begins with.
      each: trials of the study for each rater; 0 for all.
      check_every: a check of attention comes about every so many trials; 0 for none.
      seed: of orders, sides and checks.
    """

    items: Sequence[int]
    models: Sequence[int]
    categories: Sequence[str]
    practice: Sequence[Trial] = ()
    each: int = 0
    check_every: int = 25
    seed: int = 0

    def trials(self, rater: int) -> list[Trial]:
        """All trials of rater 0, 1, ... in order.

        Raters 2n and 2n + 1 see the same comparisons with the sides changed. If each judges only some, they take turns:
        any two comparisons differ by at most one in the number of such couples that judge them.
        """
        couple, flipped = divmod(rater, 2)
        chosen = self._comparisons(couple)
        rng = np.random.default_rng([self.seed, 1, couple])
        turned: dict[int, bool] = {}
        for pair in {pair for _, pair in chosen}:  # of each pair, half has the first model on the left
            mine = [number for number, (_, other) in enumerate(chosen) if other == pair]
            sides = (np.arange(len(mine)) + rng.integers(2)) % 2 == 1
            turned.update(zip(mine, rng.permutation(sides).tolist(), strict=True))
        trials = []
        for number, (item, (first, second)) in enumerate(chosen):
            left, right = Side(item, first), Side(item, second)
            trials.append(Trial("study", item, *((right, left) if turned[number] ^ bool(flipped) else (left, right))))
        own = np.random.default_rng([self.seed, 2, rater])
        ordered = [trials[number] for number in own.permutation(len(trials))]
        return [*self.practice, *self._with_checks(ordered, own)]

    def _comparisons(self, couple: int) -> list[tuple[int, tuple[int, int]]]:
        """The (item, pair of models) that two raters judge, sorted."""
        pairs = list(combinations(sorted(self.models), 2))
        everything = [(item, pair) for item in self.items for pair in pairs]
        if not 0 < self.each < len(everything):
            return everything
        round_, place = divmod(couple * self.each, len(everything))
        hand = self._deck(round_, len(everything))[place : place + self.each]
        hand += self._deck(round_ + 1, len(everything))[: self.each - len(hand)]
        return [everything[number] for number in sorted(hand)]

    def _deck(self, round_: int, size: int) -> list[int]:
        """The order in which a round deals all comparisons."""
        deck: list[int] = []
        for number in range(round_ + 1):
            # The hand that began in the last round is completed in this one: what it holds is dealt last.
            held = set(deck[size - number * size % self.each :])
            dealt = np.random.default_rng([self.seed, 3, number]).permutation(size).tolist()
            deck = sorted(dealt, key=held.__contains__)
        return deck

    def _with_checks(self, trials: list[Trial], rng: np.random.Generator) -> list[Trial]:
        if not self.check_every or len(self.items) < 2:
            return trials
        result: list[Trial] = []
        for start in range(0, len(trials), self.check_every):
            block = trials[start : start + self.check_every]
            if len(block) == self.check_every or start == 0:
                block.insert(int(rng.integers(len(block) // 2, len(block) + 1)), self._check(rng))
            result += block
        return result

    def _check(self, rng: np.random.Generator) -> Trial:
        """A trial of one model, in which one side is of another prompt."""
        own = int(rng.integers(len(self.items)))
        others = [n for n in range(len(self.items)) if n != own]
        far = [n for n in others if self.categories[n] != self.categories[own]] or others
        other = far[int(rng.integers(len(far)))]
        model = self.models[int(rng.integers(len(self.models)))]
        true, false = Side(self.items[own], model), Side(self.items[other], model)
        if rng.integers(2):
            return Trial("check", self.items[own], true, false, ("left", ""))
        return Trial("check", self.items[own], false, true, ("right", ""))
