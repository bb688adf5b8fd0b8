"""Files of prompts: lists, tables, and the published sets that models are compared on.

| file | what is read |
| --- | --- |
| `.txt` | a prompt per line |
| `.jsonl` | an object per line: `prompt` (or `text`, `caption`, `en`, `zh`), and if given `id` and `category` |
| `.csv`, `.tsv` | the same columns under a header line |
| ViLG-300, `.csv` | `Prompt,文本,类别,来源`: each row in both languages |
| PartiPrompts, `.tsv` | `Prompt`, `Category`, `Challenge`, `Note` |
| DrawBench, `.csv` | `Prompts`, `Category` |
| COCO captions, `.json` | `captions_val2014.json`: one caption of each image, drawn by the seed |
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from etils import epath

from ernie_vilg_jax import texts
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.knowledge.words import language_of
from ernie_vilg_jax.paths import reach
from ernie_vilg_jax.rows import first, json_rows, separated_rows

TEXTS = ("prompt", "prompts", "caption", "text")
"""Columns of a prompt in any language."""
LANGUAGES: Mapping[str, tuple[str, ...]] = {"en": ("en", "english"), "zh": ("zh", "文本", "中文", "chinese")}
"""Columns of a prompt in one language."""
IDS = ("id", "prompt_id", "编号")
CATEGORIES = ("category", "类别")


@dataclass(frozen=True)
class Prompt:
    """A text to make images of.

    Attributes:
      id: unique in its file, and usable in a file name.
      category: of the published set; "" without.
    """

    id: str
    text: str
    language: str
    category: str = ""


def read_prompts(path: epath.PathLike, *, flag: str = "prompts", seed: int = 0) -> list[Prompt]:
    """The prompts of a file, in order.

    Args:
      flag: the flag that named the file, for messages.
      seed: draws the caption of each image of COCO.

    Raises UserError for a file that is missing, of an unknown kind, damaged, or without prompts.
    """
    file = reach(path, flag)
    if not file.is_file():
        raise UserError(f"--{flag}={path}: there is no such file")
    readers = {".txt": _lines, ".jsonl": _objects, ".csv": _table, ".tsv": _table, ".json": _coco}
    if file.suffix.lower() not in readers:
        raise UserError(f"--{flag}={path} must be a file of prompts: {', '.join(readers)}")
    prompts = list(readers[file.suffix.lower()](texts.decode(file.read_bytes(), str(path)), str(path), seed))
    if not prompts:
        raise UserError(f"--{flag}={path}: there is no prompt in it")
    twice = [id for id, times in Counter(prompt.id for prompt in prompts).items() if times > 1]
    if twice:
        raise UserError(f"--{flag}={path}: the id {twice[0]!r} is there twice; ids name the images")
    return prompts


def choose(prompts: Sequence[Prompt], where: str, language: str = "", count: int = 0, seed: int = 0) -> list[Prompt]:
    """Some of the prompts, in order.

    Args:
      where: they come from, for messages.
      language: "en" or "zh" keeps only these; "" keeps all.
      count: draws so many by the seed; 0 keeps all.

    Raises UserError if there are too few.
    """
    kept = [prompt for prompt in prompts if language in ("", prompt.language)]
    if not kept:
        raise UserError(f"{where}: there is no prompt in {language}")
    if count > len(kept):
        raise UserError(f"{where} has {len(kept)} prompts, fewer than the {count} asked for")
    if not count:
        return kept
    chosen = np.random.default_rng(seed).choice(len(kept), count, replace=False)
    return [kept[place] for place in np.sort(chosen)]


def _lines(text: str, file: str, seed: int) -> Iterator[Prompt]:
    kept = (texts.clean(line) for line in texts.lines(text))
    for number, line in enumerate(line for line in kept if line and not line.startswith("#")):
        yield Prompt(f"{number:05d}", line, language_of(line))


def _objects(text: str, file: str, seed: int) -> Iterator[Prompt]:
    rows = json_rows(text, file, '{"id": "cat", "prompt": "a cat"}')
    return (prompt for number, (where, row) in enumerate(rows) for prompt in _of_row(row, number, where))


def _table(text: str, file: str, seed: int) -> Iterator[Prompt]:
    tabs = file.lower().endswith(".tsv")
    # PartiPrompts has single quotation marks in its cells.
    rows = separated_rows(
        text, file, lambda names: _check(names, file), separator="\t" if tabs else ",", quoted=not tabs
    )
    return (prompt for number, (where, row) in enumerate(rows) for prompt in _of_row(row, number, where))


def _check(names: set[str], file: str) -> None:
    known = (*TEXTS, *LANGUAGES["en"], *LANGUAGES["zh"])
    if not names & set(known):
        raise UserError(f"{file}: the first line must name the column of the prompts, one of {', '.join(known)}")


def _of_row(row: Mapping[str, Any], number: int, where: str) -> Iterator[Prompt]:
    """The prompts of a row: one, or one in each language."""
    id, category = (_cell(first(row, names), where) for names in (IDS, CATEGORIES))
    id = id or f"{number:05d}"
    if not re.fullmatch(r"[\w.-]{1,80}", id) or id.startswith("."):
        raise UserError(f"{where}: the id {id!r:.60} must be up to 80 letters, digits, - and _: it names the images")
    told = {language: _cell(first(row, names), where) for language, names in LANGUAGES.items()}
    general = _cell(first(row, TEXTS), where)
    if general:
        told = {language_of(general): general} | {language: text for language, text in told.items() if text}
    told = {language: text for language, text in told.items() if text}
    if not told:
        raise UserError(f"{where}: there is no prompt")
    for language, text in sorted(told.items()):
        yield Prompt(f"{id}_{language}" if len(told) > 1 else id, text, language, category)


def _cell(value: Any, where: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise UserError(f"{where}: {value!r:.60} must be text")
    # Cells of ViLG-300 hold line breaks.
    return " ".join(texts.clean(str(value)).split("\n"))


def _coco(text: str, file: str, seed: int) -> Iterator[Prompt]:
    try:
        value = texts.parse_json(text)
    except ValueError as error:
        raise UserError(f"{file}: not JSON that can be used ({error})") from error
    rows = value.get("annotations") if isinstance(value, dict) else None
    wrong = UserError(f"{file} has no list of annotations with image_id and caption, as the captions of COCO have")
    if not isinstance(rows, list):
        raise wrong
    captions: dict[int, list[str]] = {}
    for row in rows:
        if not (isinstance(row, dict) and isinstance(row.get("image_id"), int) and isinstance(row.get("caption"), str)):
            raise wrong
        captions.setdefault(row["image_id"], []).append(_cell(row["caption"], file))
    rng = np.random.default_rng(seed)
    for image, told in sorted(captions.items()):
        chosen = told[rng.integers(len(told))]
        yield Prompt(f"{image:012d}", chosen, language_of(chosen))


def by_language(prompts: Sequence[Prompt]) -> dict[str, int]:
    """How many prompts there are in each language."""
    return dict(sorted(Counter(prompt.language for prompt in prompts).items()))
