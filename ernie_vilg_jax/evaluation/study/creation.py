"""A file of prompts and folders of images -> a study in a database."""

import io
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import sqlalchemy as sql

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation.image_sets import OfPrompts, of_prompts
from ernie_vilg_jax.evaluation.study import practice
from ernie_vilg_jax.evaluation.study.database import ITEMS, MODELS, PICTURES, SETTINGS, Database
from ernie_vilg_jax.images import decode_image
from ernie_vilg_jax.pipeline.prompts import Prompt
from ernie_vilg_jax.progress import Progress

QUALITY = 95
"""Of WebP. All pictures are encoded alike, and without metadata, so that nothing but pixels tells models apart."""
LANGUAGES = ("en", "zh")


@dataclass(frozen=True)
class Options:
    """What the owner of a study decides.

    Attributes:
      title: shown to raters; "" shows a general one.
      each: trials for each rater; 0 for all.
      check_every: an attention check about every so many trials; 0 for none.
      practice: whether raters begin with examples.
      pictures: the first so many of each model and prompt; 0 for all.
      split_languages: judge a prompt in each of its languages on its own; otherwise a row in both is one item.
      most_raters: how many may join by the open link, invited ones included; 0 closes it.
      seed: of orders, sides and checks.
    """

    title: str = ""
    each: int = 0
    check_every: int = 25
    practice: bool = True
    pictures: int = 0
    split_languages: bool = False
    most_raters: int = 0
    seed: int = 0


class Item(NamedTuple):
    """What is judged: a prompt, in one language or two."""

    name: str
    en: str
    zh: str
    category: str


def folders_of(given: Sequence[str]) -> dict[str, str]:
    """{"ours": "runs/images"} of ["ours=runs/images"], the value of --images."""
    folders: dict[str, str] = {}
    for one in given:
        name, equals, folder = one.partition("=")
        if not (name.strip() and equals and folder) or len(name) > 80 or name in folders:
            raise UserError(f"--images={one} must be NAME=FOLDER, each model once, such as ours=runs/images")
        folders[name.strip()] = folder
    return folders


def items_of(prompts: Sequence[Prompt], split: bool) -> list[Item]:
    """The items of prompts; `ID_en` and `ID_zh` of one row become the item `ID`, unless `split`."""
    known = {prompt.id for prompt in prompts}
    texts: dict[str, dict[str, str]] = {}
    categories: dict[str, str] = {}
    for prompt in prompts:
        base = re.sub(r"_(en|zh)$", "", prompt.id)
        both = all(f"{base}_{language}" in known for language in LANGUAGES)
        name = base if both and not split else prompt.id
        texts.setdefault(name, {})[prompt.language] = prompt.text
        categories[name] = prompt.category
    return [Item(name, told.get("en", ""), told.get("zh", ""), categories[name]) for name, told in texts.items()]


def images_of(folder: str, items: Sequence[Item]) -> OfPrompts:
    """The images of items in a folder, named by the items, or if these are in two languages by one of them."""
    problem = None
    for ending in ("", *(f"_{language}" for language in LANGUAGES)):
        named = [
            Prompt(f"{item.name}{ending if item.en and item.zh else ''}", item.en or item.zh, "en") for item in items
        ]
        try:
            return of_prompts(folder, named, "images")
        except UserError as error:
            problem = problem or error
    more = "; --split_languages judges each language on its own" if any(item.en and item.zh for item in items) else ""
    raise UserError(f"{problem}{more}")


def create(
    database: Database, prompts: Sequence[Prompt], folders: Mapping[str, str], options: Options
) -> dict[str, Any]:
    """Makes the study, all of it or nothing.

    Args:
      database: with empty tables.
      folders: of images, by the names of the models.

    Returns:
      its settings.

    Raises UserError for fewer than two models, images that are missing or cannot be read, models with different numbers
    of images of a prompt, and a database that holds a study.
    """
    if len(folders) < 2:
        raise UserError("--images must name two or more models, such as --images=ours=runs/images,theirs=other/images")
    items = items_of(prompts, options.split_languages)
    found = {model: images_of(folder, items) for model, folder in folders.items()}
    numbers = {model: _by_item(images, len(items), options.pictures) for model, images in found.items()}
    for place, item in enumerate(items):
        counts = {model: len(mine[place]) for model, mine in numbers.items()}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{model} {count}" for model, count in counts.items())
            raise UserError(
                f"prompt {item.name} has different numbers of images ({told}); --pictures=1 takes one of each"
            )
    settings = asdict(options) | {
        "secret": secrets.token_urlsafe(16),
        "join": secrets.token_urlsafe(8),
        "practice_trials": len(practice.EXAMPLES) if options.practice else 0,
    }
    progress = Progress(sum(len(mine) for all_ in numbers.values() for mine in all_), "pictures")
    with database.writing() as connection:
        if connection.execute(sql.select(SETTINGS).limit(1)).first():
            raise UserError(f"{database.place} holds a study already; give a new file, or an empty database")
        rows = [{"name": name, "value": json.dumps(value)} for name, value in settings.items()]
        connection.execute(sql.insert(SETTINGS), rows)
        connection.execute(sql.insert(MODELS), [{"id": practice.MODEL, "name": "(practice)"}])
        connection.execute(sql.insert(MODELS), [{"id": n, "name": name} for n, name in enumerate(found, 1)])
        _add_practice(connection)
        first = 2 * len(practice.EXAMPLES)
        connection.execute(sql.insert(ITEMS), [{"id": first + n, **item._asdict()} for n, item in enumerate(items)])
        for model, (name, images) in enumerate(found.items(), 1):
            for item, mine in enumerate(numbers[name]):
                rows = [_row(first + item, model, place, _encoded(images, n)) for place, n in enumerate(mine)]
                connection.execute(sql.insert(PICTURES), rows)
                progress.made(len(rows))
    return settings


def _by_item(images: OfPrompts, count: int, most: int) -> list[list[int]]:
    """The numbers of the images of each item."""
    mine: list[list[int]] = [[] for _ in range(count)]
    for number, item in enumerate(images.own):
        mine[int(item)].append(number)
    return [numbers[: most or None] for numbers in mine]


def _add_practice(connection: sql.Connection) -> None:
    for number, example in enumerate(practice.EXAMPLES):
        trial, drawings = practice.trial(example, 2 * number)
        for item, draw in drawings.items():
            shown = item == trial.item
            values = {"en": example.en, "zh": example.zh} if shown else {"en": "", "zh": ""}
            connection.execute(sql.insert(ITEMS), {"id": item, "name": f"(practice {item})", "category": "", **values})
            connection.execute(sql.insert(PICTURES), [_row(item, practice.MODEL, 0, _webp(draw()))])


def _row(item: int, model: int, place: int, data: bytes) -> dict[str, Any]:
    return {"id": secrets.token_urlsafe(16), "item": item, "model": model, "place": place, "data": data}


def _encoded(images: OfPrompts, number: int) -> bytes:
    try:
        return _webp(decode_image(images.images.read(number)))
    except (ValueError, OSError) as error:  # of WebP, for more than 16,383 pixels a side
        raise UserError(f"{images.images.name(number)} cannot be read: {error}") from error


def _webp(image: Any) -> bytes:
    buffer = io.BytesIO()
    clean = image.convert("RGB")
    clean.info.clear()
    clean.save(buffer, "WEBP", quality=QUALITY)
    return buffer.getvalue()
