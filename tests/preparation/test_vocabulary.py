"""The tokenizer for prepared data: whatever of a trained model is named, its words keep their ids."""

from pathlib import Path

import pytest
from etils import epath
from ml_collections import ConfigDict

from ernie_vilg_jax import checkpointing
from ernie_vilg_jax.data.tokenizers import BertTokenizer, Tokenizer, Vocabulary, load_tokenizer, train_sentencepiece
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.pipeline import DEMO
from ernie_vilg_jax.preparation.prepare import prepare
from ernie_vilg_jax.preparation.vocabulary import chosen_tokenizer
from tests.small_data import make_config, picture

CAPTIONS = ("a red cat", "一只红色的猫", "a dog and a bird")
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "cat", "一", "只", "猫")


def tokenizer_of(kind: str) -> Tokenizer:
    if kind == "sentencepiece":
        return train_sentencepiece(CAPTIONS, 320, 24)
    return BertTokenizer(Vocabulary("\n".join(WORDS), do_lower_case=False), 24)


@pytest.fixture(params=["sentencepiece", "bert"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def place(kind: str, tmp_path: Path) -> Path:
    """A run, an exported checkpoint, a saved tokenizer and prepared data, all with one tokenizer."""
    tokenizer = tokenizer_of(kind)
    items = {"tokenizer": checkpointing.pack_tokenizer(tokenizer)}
    for name in ("run/base/checkpoints/8", "exported"):
        metadata = checkpointing.make_metadata(make_config(), phase="base")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        checkpointing.save_once(epath.Path(tmp_path / name), items, metadata)
    tokenizer.save(tmp_path / "data/tokenizer")
    (tmp_path / "data/manifest.json").write_text("{}")
    return tmp_path


def settings_of(kind: str, path: Path | str) -> ConfigDict:
    size = len(WORDS) if kind == "bert" else 400
    return ConfigDict({"kind": kind, "vocab_size": size, "max_length": 24, "path": str(path)})


@pytest.mark.parametrize(
    "name",
    ["run", "run/base", "run/base/checkpoints/8", "run/base/checkpoints/8/tokenizer", "exported", "exported/tokenizer",
     "data", "data/tokenizer"],
)  # fmt: skip
def test_any_place_with_a_tokenizer_is_taken(name: str, kind: str, place: Path) -> None:
    found = chosen_tokenizer(settings_of(kind, place / name))
    assert found is not None and checkpointing.same_tokenizer(found, tokenizer_of(kind))


def test_prepared_data_have_the_tokenizer_of_the_run(kind: str, place: Path) -> None:
    images = place / "images"
    images.mkdir()
    for number, caption in enumerate(("new words altogether", "别的字")):
        (images / f"{number}.png").write_bytes(picture())
        (images / f"{number}.txt").write_text(caption)
    config = make_config(sources=(ConfigDict({"name": "folder", "path": str(images)}),))
    config.tokenizer = settings_of(kind, place / "run")
    prepare(config, place / "prepared")
    assert checkpointing.same_tokenizer(load_tokenizer(place / "prepared/tokenizer"), tokenizer_of(kind))


def test_another_kind_is_named_with_its_flag(kind: str, place: Path) -> None:
    other = {"bert": "sentencepiece", "sentencepiece": "bert"}[kind]
    with pytest.raises(UserError, match=f"a tokenizer of the kind {kind}: give --config.tokenizer.kind={kind} with it"):
        chosen_tokenizer(settings_of(other, place / "run"))


@pytest.mark.parametrize("name", ["", "tokenizer"])
def test_the_demo_in_the_package(name: str) -> None:
    found = chosen_tokenizer(settings_of("sentencepiece", DEMO / name))
    assert found is not None
    assert checkpointing.same_tokenizer(found, checkpointing.read_tokenizer(checkpointing.find(DEMO)))


def test_folders_without_a_tokenizer_are_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer").mkdir()
    for name in ("", "tokenizer"):
        with pytest.raises(UserError, match=f"--config.tokenizer.path={tmp_path / name}: this folder holds no checkp"):
            chosen_tokenizer(settings_of("sentencepiece", tmp_path / name))
