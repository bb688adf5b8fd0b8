"""Runs checks one after the other, going on after a failure, and makes a report of them to paste into an issue."""

import dataclasses
import time
import traceback
from collections.abc import Callable, Iterable, Iterator

from absl import logging

Check = Callable[[], Iterator[str]]
"""Yields what it finds, line by line. Raises Skipped where it does not apply, anything else where all is not well."""


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
    """A section of each named check; `tell` is given its text as soon as it is done."""
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
        except Exception as error:  # of any kind: what is wrong is what is asked for, and the next check may be right
            verdict = "failed"
            logging.error("%s failed:\n%s", name, traceback.format_exc())
            lines.append(f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0][:500]}")
        sections.append(Section(name, verdict, time.monotonic() - started, tuple(lines)))
        tell(sections[-1].text())
    return sections


def summary(sections: Iterable[Section]) -> str:
    """ "2 failed (a, b), 3 passed, 1 skipped (c)" of what there is."""
    parts = []
    for verdict in ("failed", "passed", "skipped"):
        names = [section.name for section in sections if section.verdict == verdict]
        if names:
            parts.append(f"{len(names)} {verdict}" + (f" ({', '.join(names)})" if verdict != "passed" else ""))
    return ", ".join(parts)
