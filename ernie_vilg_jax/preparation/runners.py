"""Who does the units of a pass: this process, worker processes, or Apache Beam."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ernie_vilg_jax.preparation.folders import open_folder
from ernie_vilg_jax.preparation.run_local import run_local
from ernie_vilg_jax.preparation.work import Work
from ernie_vilg_jax.progress import Progress


def run(work: Work, names: Sequence[str], workers: int, beam: str | None, progress: Progress) -> dict[str, Any]:
    """Does the units by Apache Beam if its flags are given, else here; returns their notes."""
    if not names:
        return {}
    if beam is not None:
        from ernie_vilg_jax.preparation.run_beam import run_beam  # imports apache_beam

        run_beam(work, names, beam, progress)
        output = open_folder(work.output)
        return {name: json.loads(output.read(work.note(name))) for name in names}
    return run_local(work, names, workers, progress)
