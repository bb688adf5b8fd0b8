"""A study of two models and six prompts in two languages, with pictures of one colour each."""

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

pytest.importorskip("sqlalchemy", reason="human studies need the extra `study`")

from ernie_vilg_jax.evaluation.study import creation
from ernie_vilg_jax.evaluation.study.creation import Options, create
from ernie_vilg_jax.evaluation.study.database import Database
from ernie_vilg_jax.pipeline.prompts import read_prompts

ENGLISH = ("a cat", "two dogs\non a sofa", "<script>alert(1)</script>", "a red car", "a blue car", "a city at night")
CHINESE = ("一只猫", "两只狗\n在沙发上", "<img src=x onerror=alert(1)>", "一辆红色的车", "一辆蓝色的车", "城市夜景")


def write_prompts(file: Path, count: int = len(ENGLISH)) -> Path:
    """A file like ViLG-300's: byte order mark, cells with line breaks, no ids."""
    with file.open("w", encoding="utf-8-sig", newline="") as text:
        writer = csv.writer(text)
        writer.writerow(["Prompt", "文本", "类别", "来源"])
        for number in range(count):
            place = number % len(ENGLISH)
            more = f", {number}" if number >= len(ENGLISH) else ""
            writer.writerow([ENGLISH[place] + more, CHINESE[place] + more, ("animals", "cars")[number % 2], "made"])
    return file


def write_images(folder: Path, names: Sequence[str], colour: int = 0, size: int = 16) -> str:
    """PNGs with text inside, as models write them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        notes = PngImagePlugin.PngInfo()
        notes.add_text("model", folder.name)
        Image.new("RGB", (size, size), (colour, 8 * number % 256, 100)).save(folder / f"{name}.png", pnginfo=notes)
    return str(folder)


@pytest.fixture(autouse=True, scope="session")
def _pictures_are_encoded_once() -> Iterator[None]:
    """Encoding the pictures to practise on takes most of making a study; they are the same in each."""
    encode, known = creation._webp, dict[Any, bytes]()

    def once(image: Image.Image) -> bytes:
        content = image.mode, image.size, image.tobytes()
        if content not in known:
            known[content] = encode(image)
        return known[content]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(creation, "_webp", once)
        yield


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., Database]:
    """A function that makes a study."""

    def make(
        place: str | None = None,
        count: int = len(ENGLISH),
        models: Sequence[str] = ("ours", "theirs"),
        each: int = 1,
        size: int = 16,
        **options: object,
    ) -> Database:
        names = [f"{n:05d}_{k}" for n in range(count) for k in range(each)]
        folders = {model: write_images(tmp_path / model, names, 90 * place, size) for place, model in enumerate(models)}
        database = Database(place or str(tmp_path / "study.db"), create=True)
        prompts = read_prompts(write_prompts(tmp_path / "prompts.csv", count))
        create(database, prompts, folders, Options(**{"check_every": 3, **options}))
        return database

    return make
