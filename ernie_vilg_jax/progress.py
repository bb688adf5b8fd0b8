"""Progress of long work: rate and time left in the log."""

import time

from absl import logging

_REPORT_SECONDS = 5.0


class Progress:
    """Counts what is done and reports rate and time left every few seconds."""

    def __init__(self, total: int, what: str = "records") -> None:
        self._what = what
        self._total, self._done, self._made = total, 0, 0
        self._start = self._last = time.monotonic()

    def kept(self, count: int) -> None:
        """Counts what an earlier run has done."""
        self._done += count

    def made(self, count: int = 1) -> None:
        self._done += count
        self._made += count
        now = time.monotonic()
        if now - self._last >= _REPORT_SECONDS:
            self._last = now
            rate = self._made / (now - self._start)
            left = (self._total - self._done) / rate if rate else float("inf")
            logging.info(
                "%d of %d %s (%.0f%%), %s, %.0f s left",
                self._done,
                self._total,
                self._what,
                100 * self._done / self._total,
                _per_second(rate),
                left,
            )

    def summary(self) -> str:
        seconds = max(time.monotonic() - self._start, 1e-9)
        return f"{self._made} {self._what} made in {seconds:.1f} s ({_per_second(self._made / seconds)})"


def _per_second(rate: float) -> str:
    return f"{rate:.0f}/s" if rate >= 10 else f"{rate:.2g}/s"
