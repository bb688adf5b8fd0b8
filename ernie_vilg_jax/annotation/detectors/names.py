"""Labels of detectors to names in both languages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.knowledge.words import language_of
from ernie_vilg_jax.tables import rows

COCO_CHINESE = {english: chinese for english, chinese in rows("lexicons/coco.tsv")}
"""English -> Chinese name of the 80 classes."""

SPELLINGS: dict[str, str] = {
    "aeroplane": "airplane",
    "motorbike": "motorcycle",
    "sofa": "couch",
    "pottedplant": "potted plant",
    "diningtable": "dining table",
    "tvmonitor": "tv",
}
"""The Pascal VOC spellings that some detectors give to COCO classes."""

_NOTHING = frozenset({"", "n/a", "background", "no object", "__background__", "none"})


class Names:
    """A detector's label -> names by language."""

    def __init__(self, label_names: str | Path | None = None) -> None:
        """Args: label_names: JSON file {"English name": "Chinese name"}, takes precedence over the COCO classes."""
        self._chinese = dict(COCO_CHINESE)
        if label_names:
            self._chinese.update(_read_names(Path(label_names)))

    def __call__(self, label: str) -> dict[str, str]:
        """{"en": ..., "zh": ...} as far as known; {} for labels without an object.

        Of alternatives joined by commas, as in Visual Genome's classes ("stop sign,stopsign"), the first is taken.
        """
        name = label.split(",")[0].strip() if label.strip().lower() not in self._chinese else label.strip()
        if name.lower() in _NOTHING:
            return {}
        if language_of(name) == "zh":
            return {"zh": name}
        name = SPELLINGS.get(name.lower(), name).replace("_", " ")
        chinese = self._chinese.get(name.lower())
        return {"en": name, "zh": chinese} if chinese else {"en": name}


def read_json(path: Path, what: str, fix: str) -> Any:
    """The content of a JSON file. Raises UserError, with the remedy `fix`, if `what` cannot be read or parsed."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{what} cannot be read ({error.strerror}): {fix}") from error
    except ValueError as error:
        raise UserError(f"{what} is not JSON ({error}): {fix}") from error


def _read_names(path: Path) -> dict[str, str]:
    fix = 'it must hold {"English name": "Chinese name", ...}'
    table = read_json(path, f"label_names={str(path)!r}", fix)
    if not isinstance(table, dict) or not all(isinstance(value, str) and value for value in table.values()):
        raise UserError(f"label_names={str(path)!r} is not a table of names: {fix}")
    return {key.strip().lower(): value.strip() for key, value in table.items()}
