"""The passes of preparation: the same bytes however the work is cut and who does it; what is dropped is counted."""

import json
from pathlib import Path
from typing import Any

import pytest
from ml_collections import ConfigDict

from ernie_vilg_jax.data.manifests import read_manifest
from ernie_vilg_jax.data.records import Record, open_split
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.preparation import binned, passes, shards, sources
from ernie_vilg_jax.preparation.folders import open_folder
from ernie_vilg_jax.preparation.prepare import prepare
from tests.preparation.folders import Stop, contents
from tests.preparation.sources.test_own_images import write_tar
from tests.small_data import make_config, picture

BEAM = "--runner=DirectRunner --direct_num_workers=2 --direct_running_mode=in_memory"


def records_in(folder: Path) -> list[Record]:
    found = []
    for split in ("train", "holdout"):
        source = open_split(folder, split)
        found += [source[index] for index in range(len(source))]
    return found


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_the_size_of_parts_changes_no_byte(
    size: int, prepared: Path, config: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sources, "PART", size)
    prepare(config, tmp_path)
    assert contents(tmp_path) == contents(prepared)


@pytest.mark.parametrize("driver", [{"workers": 2}, {"beam": BEAM}], ids=["processes", "beam"])
def test_processes_and_beam_write_the_same_bytes(driver: dict[str, Any], tmp_path: Path):
    for number in range(4):
        files = {f"{k}.{kind}": picture(size=(20 + k, 12)) if kind == "png" else f"{k}" for k in range(9)
                 for kind in ("png", "txt")}  # fmt: skip
        write_tar(tmp_path / f"{number}.tar", files)
    tars = ConfigDict({"name": "tars", "path": str(tmp_path / "*.tar")})
    config = make_config(sources=(tars,), holdout_fraction=0.2, holdout_shards=2)
    config.data.filters = ConfigDict({"min_side": 12, "max_aspect": 2.2})
    prepare(config, tmp_path / "here")
    prepare(config, tmp_path / "there", **driver)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_an_error_in_a_worker_of_beam_is_its_sentence(tmp_path: Path):
    write_tar(tmp_path / "0.tar", {"1.png": picture(), "1.txt": "a"})
    write_tar(tmp_path / "1.tar", {"1.png": b"x", "1.txt": "a"})
    config = make_config(sources=(ConfigDict({"name": "tars", "path": str(tmp_path / "*.tar")}),))
    with pytest.raises(UserError, match=r"^1\.png in .*1\.tar cannot be decoded as an image"):
        prepare(config, tmp_path / "out", beam=BEAM)


@pytest.mark.parametrize(("train", "holdout"), [(3, 4), (4, 1), (5, 2)])
def test_several_holdout_shards_have_the_same_records(train: int, holdout: int, tmp_path: Path):
    whole = {}
    for number, count in enumerate((1, holdout)):
        config = make_config(num_shards=train, holdout_shards=count, holdout_fraction=0.3)
        manifest = prepare(config, tmp_path / str(number))
        assert len(manifest["splits"]["holdout"]["shards"]) == count
        source = open_split(tmp_path / str(number), "holdout")
        whole[number] = {source[index].id for index in range(len(source))}
    assert whole[0] == whole[1]
    assert len(records_in(tmp_path / "1")) == 100


def test_what_the_filters_drop_is_counted_in_the_manifest_and_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", "absl")
    images = {"ok": (20, 12), "small": (20, 11), "long": (40, 12), "words": (20, 12), "half": (20, 12)}
    texts = {"words": "https://x.y", "half": "see www.z\na cat"}
    files: dict[str, bytes | str] = {}
    for number, (name, size) in enumerate(images.items()):
        files |= {f"{name}.png": picture(("red", "blue", "green", "black", "white")[number], size)}
        files |= {f"{name}.txt": texts.get(name, f"a {name} one")}
    write_tar(tmp_path / "a.tar", files)
    config = make_config(sources=(ConfigDict({"name": "tars", "path": str(tmp_path / "a.tar")}),), holdout_fraction=0.0)
    config.data.filters = ConfigDict({"min_side": 12, "max_aspect": 3.0, "forbidden": (r"https?://", "www")})
    manifest = prepare(config, tmp_path / "out")
    source = open_split(tmp_path / "out", "train")
    assert {source[index].id: source[index].captions for index in range(len(source))} == {
        "tars/a/ok": {"en": ["a ok one"]},
        "tars/a/half": {"en": ["a cat"]},
    }
    expected = {"captions.forbidden": 2, "kept": 2, "max_aspect": 1, "min_side": 1, "no_caption_left": 1, "read": 5}
    assert manifest["filters"]["counts"] == expected
    assert manifest["filters"]["settings"]["min_side"] == 12
    assert "filters: 2 of 5 records are kept; dropped: {'captions.forbidden': 2, 'max_aspect': 1" in caplog.text
    assert prepare(config, tmp_path / "out") == manifest
    (tmp_path / "out" / "train-00001-of-00003.array_record").unlink()
    assert prepare(config, tmp_path / "out") == manifest, "a shard that is made again changes no count"
    config.data.filters.min_side = 100
    with pytest.raises(UserError, match=r"filters drop all 5 records of source 'tars' .*loosen them"):
        prepare(config, tmp_path / "none")


def test_near_duplicates_are_found_over_parts_and_shards(tmp_path: Path):
    """Every image is in each of three tars, in two of them scaled or compressed."""
    from tests.preparation.test_filters import photograph

    for number in range(3):
        files: dict[str, bytes | str] = {}
        for seed in range(8):
            files |= {
                f"{seed}.jpg": photograph(seed, (96, 64, 80)[number], (95, 80, 60)[number]),
                f"{seed}.txt": f"{seed}",
            }
        write_tar(tmp_path / f"{number}.tar", files)
    found = {}
    for name, driver in {"here": {}, "beam": {"beam": BEAM}}.items():
        config = make_config(
            sources=(ConfigDict({"name": "tars", "path": str(tmp_path / "*.tar")}),), holdout_fraction=0.2
        )
        config.data.filters = ConfigDict({"near_duplicates": True})
        manifest = prepare(config, tmp_path / name, **driver)
        assert manifest["filters"]["counts"] == {"kept": 8, "near_duplicates": 16, "read": 24}
        records = records_in(tmp_path / name)
        assert sorted(record.captions["en"][0] for record in records) == [str(seed) for seed in range(8)]
        found[name] = contents(tmp_path / name)
    assert found["here"] == found["beam"]


def test_the_list_of_held_out_concepts_is_bounded(
    config: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO", "absl")
    config.data.holdout_fraction = 0.3
    whole = prepare(config, tmp_path / "a")
    assert len(whole["held_out"]) > 4
    for module in (passes, shards):
        monkeypatch.setattr(module, "HELD_LISTED", 4)
    bounded = prepare(config, tmp_path / "b")
    assert bounded["held_out"] == [] and "more than 4 concepts are held out" in caplog.text
    assert bounded["splits"] == whole["splits"]


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_file_between_the_passes_is_named(
    damage: str, config: ConfigDict, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def stop(*arguments: Any) -> None:
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(passes.Gather, "do", stop)
        with pytest.raises(Stop):
            prepare(config, tmp_path)
    file = tmp_path / ".progress/parts/00000000"
    data = file.read_bytes()
    if damage == "cut":
        file.write_bytes(data[:-1])
        prepare(config, tmp_path)  # the part is read again
        assert contents(tmp_path) == contents(prepared)
    else:
        file.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
        with pytest.raises(UserError, match=r"progress/parts/00000000 in the output is damaged: delete that file"):
            prepare(config, tmp_path)
        file.unlink()
        prepare(config, tmp_path)
        assert contents(tmp_path) == contents(prepared)


def test_a_bin_is_read_without_the_others(tmp_path: Path):
    with (tmp_path / "data").open("wb") as data:
        rows = [binned.append(data, bytes([65 + n]) * n, n % 3, [n]) for n in range(8)]
    binned.write(tmp_path / "binned", rows, 4, tmp_path / "data")
    folder = open_folder(str(tmp_path))
    for first, last, expected in (
        (0, 1, [0, 3, 6]),
        (1, 3, [1, 4, 7, 2, 5]),
        (3, 4, []),
        (0, 4, [0, 3, 6, 1, 4, 7, 2, 5]),
    ):
        found, start, stop = binned.read_rows(folder, "binned", first, last)
        assert [row[0] for row in found] == expected
        assert folder.read_range("binned", start, stop) == b"".join(bytes([65 + n]) * n for n in expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"holdout_shards": 0}, "holdout_shards=0 must be at least 1"),
        ({"filters": {"min_sid": 3}}, "filters has no 'min_sid': it has min_side, max_aspect"),
        ({"filters": {"min_side": -1}}, "min_side=-1 must be at least 0"),
        ({"filters": {"max_aspect": 0.5}}, "max_aspect=0.5 keeps nothing"),
        ({"filters": {"min_characters": 9, "max_characters": 8}}, "max_characters=8 is below min_characters=9"),
        ({"filters": {"forbidden": ("(",)}}, r"forbidden: '\(' is not a regular expression"),
    ],
)
def test_mistakes_in_the_settings_are_one_sentence(change: dict[str, Any], message: str, tmp_path: Path):
    config = make_config(**{key: ConfigDict(v) if isinstance(v, dict) else v for key, v in change.items()})
    with pytest.raises(UserError, match=message):
        prepare(config, tmp_path)
    assert not list(tmp_path.iterdir())


def test_settings_that_keep_everything_leave_the_fingerprint(prepared: Path, config: ConfigDict, tmp_path: Path):
    """So that data of earlier versions stay complete."""
    config.data.filters = ConfigDict({"min_side": 0, "forbidden": ()})
    config.data.holdout_shards = 1
    assert prepare(config, tmp_path)["fingerprint"] == read_manifest(prepared)["fingerprint"]
    assert json.loads((tmp_path / "manifest.json").read_text()) == json.loads((prepared / "manifest.json").read_text())
