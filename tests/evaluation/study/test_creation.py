"""From a file of prompts and folders of images to a study; nothing but pixels can tell the models apart."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sql
from PIL import Image

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation.study.creation import Options, create, folders_of
from ernie_vilg_jax.evaluation.study.database import ITEMS, PICTURES, Database
from ernie_vilg_jax.pipeline.prompts import read_prompts
from tests.evaluation.study.conftest import CHINESE, ENGLISH, write_images, write_prompts

Make = Callable[..., Database]


def items(database: Database) -> list:
    with database.reading() as connection:
        query = sql.select(ITEMS).where(~ITEMS.c.name.startswith("(practice")).order_by(ITEMS.c.id)
        return list(connection.execute(query))


def test_a_row_in_two_languages_is_one_item(make_study: Make):
    found = items(make_study())
    assert [(one.name, one.en, one.category) for one in found[:2]] == [
        ("00000", "a cat", "animals"),
        ("00001", "two dogs on a sofa", "cars"),
    ]
    assert [one.zh for one in found] == [text.replace("\n", " ") for text in CHINESE]


def test_languages_are_split_on_request(tmp_path: Path):
    names = [f"{n:05d}_{language}" for n in range(6) for language in ("en", "zh")]
    folders = {model: write_images(tmp_path / model, names) for model in ("a", "b")}
    prompts = read_prompts(write_prompts(tmp_path / "prompts.csv"))
    database = Database(tmp_path / "study.db", create=True)
    with pytest.raises(UserError, match="--split_languages judges each language on its own"):
        create(database, prompts, folders, Options())
    create(database, prompts, folders, Options(split_languages=True))
    assert [(one.name, one.en, one.zh) for one in items(database)[:2]] == [
        ("00000_en", "a cat", ""),
        ("00000_zh", "", "一只猫"),
    ]


def test_a_model_may_read_one_language_and_the_other_model_the_other(tmp_path: Path):
    folders = {
        language: write_images(tmp_path / language, [f"{n:05d}_{language}_0" for n in range(6)])
        for language in ("en", "zh")
    }
    database = Database(tmp_path / "study.db", create=True)
    create(database, read_prompts(write_prompts(tmp_path / "prompts.csv")), folders, Options())
    assert len(items(database)) == len(ENGLISH)


def test_pictures_say_nothing_of_their_model(make_study: Make):
    with make_study(each=2).reading() as connection:
        found = connection.execute(sql.select(PICTURES)).all()
    assert len(found) == 6 + 2 * 6 * 2
    assert len({len(one.id) for one in found}) == 1 and len({one.id for one in found}) == len(found)
    for one in found:
        assert b"ours" not in one.data and b"theirs" not in one.data
        image = Image.open(io.BytesIO(one.data))
        assert image.format == "WEBP" and not set(image.info) - {"loop", "background", "timestamp", "duration"}


def test_only_the_first_pictures_on_request(make_study: Make):
    with make_study(each=3, pictures=2).reading() as connection:
        assert connection.execute(sql.select(sql.func.max(PICTURES.c.place))).scalar() == 1


def test_models_must_have_equal_numbers_of_images(tmp_path: Path):
    folders = {
        "a": write_images(tmp_path / "a", [f"{n:05d}" for n in range(6)]),
        "b": write_images(tmp_path / "b", [f"{n:05d}_{k}" for n in range(6) for k in range(2)]),
    }
    database = Database(tmp_path / "study.db", create=True)
    prompts = read_prompts(write_prompts(tmp_path / "prompts.csv"))
    with pytest.raises(UserError, match=r"prompt 00000 has different numbers of images \(a 1, b 2\); --pictures=1"):
        create(database, prompts, folders, Options())
    create(database, prompts, folders, Options(pictures=1))


def test_a_damaged_image_leaves_no_half_study(tmp_path: Path):
    folders = {model: write_images(tmp_path / model, [f"{n:05d}" for n in range(6)]) for model in ("a", "b")}
    (tmp_path / "b" / "00003.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    database = Database(tmp_path / "study.db", create=True)
    prompts = read_prompts(write_prompts(tmp_path / "prompts.csv"))
    with pytest.raises(UserError, match=r"00003\.png cannot be read"):
        create(database, prompts, folders, Options())
    assert not database.settings() and not items(database)
    with pytest.raises(UserError, match="holds no study"):
        Database(tmp_path / "study.db")


def test_a_study_is_not_made_over_another(make_study: Make):
    database = make_study()
    with pytest.raises(UserError, match="holds a study already"):
        make_study(str(database.place))


@pytest.mark.parametrize(
    ("given", "message"),
    [(["a"], "NAME=FOLDER"), (["=x"], "NAME=FOLDER"), (["a="], "NAME=FOLDER"), (["a=x", "a=y"], "each model once")],
)
def test_folders_that_are_not_named(given: list[str], message: str):
    with pytest.raises(UserError, match=message):
        folders_of(given)


def test_one_model_is_too_few(tmp_path: Path):
    database = Database(tmp_path / "study.db", create=True)
    with pytest.raises(UserError, match="two or more models"):
        create(database, [], {"a": str(tmp_path)}, Options())


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("none.db", "there is no such study; make one with `human_study create"),
        ("text.db", "not a database that can be used"),
        ("mysql://x/y", "a study is a file for SQLite, or postgresql://"),
        ("postgresql://u:secret@127.0.0.1:1/x", r"127\.0\.0\.1:1/x: not a database that can be used"),
    ],
)
def test_a_place_that_is_no_study_is_one_sentence(tmp_path: Path, place: str, message: str):
    (tmp_path / "text.db").write_text("this is a text of some length, and not a database\n" * 100)
    with pytest.raises(UserError, match=message) as caught:
        Database(place if "://" in place else tmp_path / place)
    assert "secret" not in str(caught.value)
