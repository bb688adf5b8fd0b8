"""The share of the time in which a run that is interrupted makes progress: by simulation, and by Daly's formula.

A run saves every `interval` seconds of work, which stops it for `save` seconds. Interruptions come at random, on
average one in `between` seconds. After one, work since the last save is lost, and it takes `restart` seconds until the
run goes on; an interruption in that time starts it again.

J. T. Daly, "A higher order estimate of the optimum checkpoint interval for restart dumps", 2006; J. W. Young, 1974.
"""

from __future__ import annotations

import dataclasses
import math
import random


@dataclasses.dataclass(frozen=True)
class Interruptions:
    """All in seconds. `between`: the mean time between two interruptions of the whole run."""

    between: float
    save: float
    restart: float

    def formula(self, interval: float) -> float:
        """Daly's exact mean for exponential times (his equation 20), as a share."""
        mean = self.between
        whole = mean * math.exp(self.restart / mean) * math.expm1((interval + self.save) / mean)
        return interval / whole

    def best_interval(self) -> float:
        """Young's interval with Daly's first correction."""
        return max(math.sqrt(2 * self.save * (self.between + self.restart)) - self.save, self.save)

    def simulate(self, interval: float, work: float, seed: int = 0) -> float:
        """The share of useful time in a run of `work` seconds of useful work, event by event."""
        draw = random.Random(seed)
        now, done = 0.0, 0.0
        next_one = draw.expovariate(1 / self.between)
        while done < work:
            piece = min(interval, work - done)
            end = now + piece + self.save
            if end <= next_one:
                now, done = end, done + piece
                continue
            now = next_one
            while True:  # until a restart is not interrupted
                next_one = now + draw.expovariate(1 / self.between)
                if now + self.restart <= next_one:
                    now += self.restart
                    break
                now = next_one
        return work / now
