"""Runs checks one after the other, continues after a failure, and makes a report to paste into an issue."""

import dataclasses
import time
import traceback
from collections.abc import Callable, Iterable, Iterator

from absl import logging

from ernie_vilg_jax.errors import first_line

Check = Callable[[], Iterator[str]]
"""Yields its findings, line by line. Raises Skipped if it does not apply, and any other exception if it fails."""


class Skipped(Exception):
    """A check that does not apply here; says why."""


@dataclasses.dataclass(frozen=True)
class Section:
    name: str
    verdict: str
    """"passed", "failed" or "skipped"."""
    seconds: float
    lines: tuple[str, ...]

    def text(self) -> str:
        """As Markdown."""
        lines = "\n".join(f"- {line}" for line in self.lines)
        return f"### {self.name}: {self.verdict} ({self.seconds:.1f} s)\n\n{lines}\n"


def run(checks: Iterable[tuple[str, Check]], tell: Callable[[str], None]) -> list[Section]:
    """One section for each named check; `tell` gets its text as soon as it is done."""
    sections = []
    for name, check in checks:
        lines, verdict, started = [], "passed", time.monotonic()
        try:
            for line in check():
                logging.info("%s: %s", name, line)
                lines.append(line)
        except Skipped as reason:
            verdict = "skipped"
            lines.append(str(reason))
        except Exception as error:  # of any type: faults are what is looked for, and later checks may pass
            verdict = "failed"
            logging.error("%s failed:\n%s", name, traceback.format_exc())
            lines.append(f"{type(error).__name__}: {first_line(error, 500)}")
        sections.append(Section(name, verdict, time.monotonic() - started, tuple(lines)))
        tell(sections[-1].text())
    return sections


def summary(sections: Iterable[Section]) -> str:
    """ "2 failed (a, b), 3 passed, 1 skipped (c)", without empty parts."""
    parts = []
    for verdict in ("failed", "passed", "skipped"):
        names = [section.name for section in sections if section.verdict == verdict]
        if names:
            parts.append(f"{len(names)} {verdict}" + (f" ({', '.join(names)})" if verdict != "passed" else ""))
    return ", ".join(parts)
