"""Preparation: the folder that it writes, and mistakes."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from ml_collections import ConfigDict

from ernie_vilg_jax.data.loader import check_data
from ernie_vilg_jax.data.manifests import check_shards, read_manifest
from ernie_vilg_jax.data.records import open_split
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.preparation import sources, splits
from ernie_vilg_jax.preparation.prepare import prepare
from ernie_vilg_jax.preparation.sources import scenes
from tests.disks import as_nobody
from tests.preparation.folders import contents
from tests.small_data import make_config, picture


def test_two_runs_write_the_same_bytes(prepared: Path, config: ConfigDict, tmp_path: Path):
    prepare(config, tmp_path)
    assert contents(tmp_path) == contents(prepared)


@dataclasses.dataclass
class Titled(scenes.SceneSource):
    title: str = dataclasses.field(kw_only=True)


def test_an_option_may_have_no_default(config: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sources.REGISTRY, "titled", f"{__name__}:Titled")
    config.data.sources = (ConfigDict({**config.data.sources[0].to_dict(), "name": "titled", "title": "a"}),)
    manifest = prepare(config, tmp_path)
    assert manifest["settings"]["sources"][0]["title"] == "a"
    assert "title" not in manifest["source_defaults"]["scenes"]
    config.data.path = str(tmp_path)
    config.data.sources[0].name = "scenes"  # what records say
    check_data(config)
    config.data.sources[0].title = "b"
    with pytest.raises(UserError, match=r"scenes\.title='a', the config says 'b'"):
        check_data(config)


def test_the_manifest_counts_the_records(prepared: Path):
    manifest = read_manifest(prepared)
    for split in ("train", "holdout"):
        source = open_split(prepared, split)
        records = [source[index] for index in range(len(source))]
        stated = manifest["splits"][split]
        assert stated["records"] == stated["by_source"]["scenes"] == len(records) > 0
        assert stated["captions"] == {
            language: sum(len(record.captions[language]) for record in records) for language in ("zh", "en")
        }
        check_shards(prepared, split)
    assert manifest["sources"][0]["licences"][0]["licence"] == "Apache-2.0"
    assert "Apache-2.0" in (prepared / "LICENCES.md").read_text()
    assert not (prepared / ".progress").exists()


def test_a_held_out_concept_is_never_seen_in_training(prepared: Path):
    held = set(read_manifest(prepared)["held_out"])
    seen: dict[str, set[str]] = {}
    for split in ("train", "holdout"):
        source = open_split(prepared, split)
        seen[split] = {unit for i in range(len(source)) for unit in splits.units(source[i].concept)}
    assert held and not held & seen["train"]
    assert held & seen["holdout"]


def test_every_record_is_in_one_shard(prepared: Path):
    sources = [open_split(prepared, split) for split in ("train", "holdout")]
    ids = [source[index].id for source in sources for index in range(len(source))]
    assert sorted(ids) == [f"scenes/0-{n:07d}" for n in range(100)]


def test_a_vocabulary_without_the_words_of_the_captions_is_logged(
    config: ConfigDict, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    words = "[PAD] [UNK] [CLS] [SEP] [MASK] " + " ".join("abcdefghijklmnopqrstuvwxyz")
    words = " ".join([words, *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")])
    (tmp_path / "vocab.txt").write_text(words.replace(" ", "\n"))
    config.tokenizer.update(kind="bert", path=str(tmp_path), vocab_size=57)
    prepare(config, tmp_path / "out")
    assert "does not know" in caplog.text and str(tmp_path) in caplog.text
    caplog.clear()
    prepare(make_config(), tmp_path / "trained")
    config.tokenizer.update(kind="sentencepiece", path=str(tmp_path / "trained/tokenizer"), vocab_size=400)
    prepare(config, tmp_path / "again")
    assert "does not know" not in caplog.text


@pytest.mark.parametrize("kind", ["bert", "sentencepiece"])
def test_a_wrong_tokenizer_is_reported_before_anything_is_written(kind: str, config: ConfigDict, tmp_path: Path):
    config.tokenizer.update(kind=kind, path=str(tmp_path))
    (tmp_path / "vocab.txt").write_text("a\n")
    with pytest.raises(UserError, match=r"lacks \[PAD\]|no tokenizer in"):
        prepare(config, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_an_output_that_cannot_be_a_folder_is_named(config: ConfigDict, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made a folder"):
        prepare(config, tmp_path / "file")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sources": ()}, "sources is empty"),
        ({"num_shards": 0}, "num_shards=0"),
        ({"holdout_fraction": 1.0}, "holdout_fraction=1.0"),
        ({"sources": (ConfigDict({"name": "emojis"}),)}, "sources: source 'emojis' must be one of"),
        ({"sources": (ConfigDict({"name": "scenes", "cuont": 3}),)}, "no option 'cuont'"),
        ({"sources": (ConfigDict({"name": "scenes", "count": 0}),)}, "count=0"),
        ({"sources": (ConfigDict({"name": "scenes", "objects": "cars"}),)}, "'shapes' or 'emoji'"),
        ({"sources": (ConfigDict({"name": "scenes"}), ConfigDict({"name": "scenes", "seed": 1}))}, "'scenes' 2 times"),
    ],
)
def test_mistakes_in_the_config_are_one_sentence(change: dict[str, Any], message: str, tmp_path: Path):
    with pytest.raises(UserError, match=message):
        prepare(make_config(**change), tmp_path)


def test_the_manifest_is_readable_json_with_licences_of_every_source(prepared: Path):
    manifest = json.loads((prepared / "manifest.json").read_text())
    assert [source["name"] for source in manifest["sources"]] == ["scenes"]
    assert manifest["settings"]["sources"][0]["count"] == 100
    assert len(manifest["fingerprint"]) == 64


def obstruct(path: Path) -> None:
    """A file in place of a folder, or a folder in place of a file."""
    if path.is_dir():
        shutil.rmtree(path)
        path.write_text("")
    else:
        path.unlink(missing_ok=True)
        (path / "in the way").mkdir(parents=True)


@pytest.mark.parametrize(
    "name",
    ["manifest.json", "train-00001-of-00003.array_record", "LICENCES.md", "preview.png", "tokenizer", ".progress",
     "tokenizer/tokenizer.json", "tokenizer/sentencepiece.model"],
)  # fmt: skip
def test_obstructing_files_are_named_and_kept(prepared: Path, config: ConfigDict, tmp_path: Path, name: str):
    output = tmp_path / "out"
    shutil.copytree(prepared, output)
    (output / ".progress").mkdir()
    (output / "manifest.json").unlink()
    obstruct(output / name)
    with pytest.raises(UserError, match=rf"{name}: (is a directory|file exists|not a directory); .* belongs"):
        prepare(config, output)
    shutil.rmtree(output / name) if (output / name).is_dir() else (output / name).unlink()
    prepare(config, output)
    assert contents(output) == contents(prepared)


def test_files_without_rights_are_named(prepared: Path, config: ConfigDict, open_folder: Path):
    shutil.copytree(prepared, open_folder / "out")
    (open_folder / "out").chmod(0o755)
    (open_folder / "pictures").mkdir()
    (open_folder / "pictures").chmod(0o777)
    (open_folder / "pictures/1.png").write_bytes(picture())
    (open_folder / "pictures/1.txt").write_text("a picture")
    (open_folder / "pictures/1.png").chmod(0)
    with as_nobody():
        (open_folder / "pictures/sub").mkdir()
    own = make_config(sources=(ConfigDict({"name": "folder", "path": str(open_folder / "pictures")}),))
    with as_nobody():
        with pytest.raises(UserError, match=r"pictures/1\.png: permission denied; give this user the right to it"):
            prepare(own, open_folder / "own")
        (open_folder / "pictures/sub").chmod(0)
        with pytest.raises(UserError, match=r"pictures/sub: permission denied; give this user the right to it"):
            prepare(own, open_folder / "own")
        (open_folder / "pictures/sub").chmod(0o700)
        with pytest.raises(UserError, match=r"--output=.*closed cannot be made a folder \(Permission denied\)"):
            prepare(config, open_folder / "out/closed")
        config.data.num_shards = 2
        with pytest.raises(UserError, match=r"out/.*: permission denied; give this user the right to it"):
            prepare(config, open_folder / "out")
    assert contents(open_folder / "out") == contents(prepared)
