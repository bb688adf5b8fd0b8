"""Data and checkpoints in gs:// buckets, of a server on this machine: the real clients, none of them a double."""

import pickle
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from ernie_vilg_jax import pipeline
from ernie_vilg_jax.data import remote
from ernie_vilg_jax.data.loader import make_loader
from ernie_vilg_jax.data.manifests import check_shards, read_manifest
from ernie_vilg_jax.data.records import Record, open_split
from ernie_vilg_jax.data.remote import Copies, ShardReader
from ernie_vilg_jax.data.tokenizers import load_tokenizer
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.preparation.prepare import prepare
from tests.buckets import contents_of, upload
from tests.preparation.folders import contents
from tests.preparation.sources.test_own_images import write_tar
from tests.small_data import make_config, picture

DATA = "gs://bucket/data"


@pytest.fixture
def uploaded(gcs: Any, prepared: Path) -> Any:
    upload(gcs, prepared, DATA)
    return gcs


def test_prepare_reads_and_writes_a_bucket(gcs: Any, tmp_path: Path):
    (tmp_path / "tars").mkdir()
    for number in range(2):
        files = {f"{k}.{kind}": picture(size=(20 + k, 12)) if kind == "png" else f"a cat {k}" for k in range(9)
                 for kind in ("png", "txt")}  # fmt: skip
        write_tar(tmp_path / f"tars/{number}.tar", files)
    upload(gcs, tmp_path / "tars", "gs://bucket/tars")
    config = make_config(holdout_fraction=0.2)
    config.data.sources = (ConfigDict({"name": "tars", "path": str(tmp_path / "tars" / "{0..1}.tar")}),)
    prepare(config, tmp_path / "here")
    config.data.sources = (ConfigDict({"name": "tars", "path": "gs://bucket/tars/{0..1}.tar"}),)
    manifest = prepare(config, "gs://bucket/out")
    here, there = contents(tmp_path / "here"), contents_of(gcs, "gs://bucket/out")
    # The manifest and the licences name the place of the tars; the preview is of two shards, as others would be copied.
    assert {name for name in here if here[name] != there[name]} <= {"manifest.json", "LICENCES.md", "preview.png"}
    assert here.keys() == there.keys()
    assert manifest["splits"] == read_manifest(tmp_path / "here")["splits"]
    written = {file: gcs.info(file)["generation"] for file in gcs.find("bucket/out")}
    assert prepare(config, "gs://bucket/out") == manifest
    assert {file: gcs.info(file)["generation"] for file in gcs.find("bucket/out")} == written, "a finished one is kept"


def test_a_killed_run_in_a_bucket_goes_on(
    gcs: Any, prepared: Path, config: ConfigDict, monkeypatch: pytest.MonkeyPatch
):
    from ernie_vilg_jax.preparation import passes
    from tests.preparation.folders import Stop

    original, done = passes.Gather.do, []

    def stop(self: Any, name: str, report: Any) -> Any:
        if len(done) == 2:
            raise Stop
        done.append(name)
        return original(self, name, report)

    with monkeypatch.context() as patch:
        patch.setattr(passes.Gather, "do", stop)
        with pytest.raises(Stop):
            prepare(config, DATA)
    first = {name: gcs.info(f"{DATA}/{name}")["generation"] for name in done}
    prepare(config, DATA)
    assert {name: gcs.info(f"{DATA}/{name}")["generation"] for name in done} == first
    without = {"preview.png": ""}
    assert contents_of(gcs, DATA) | without == contents(prepared) | without


def test_manifest_tokenizer_and_sizes_are_read_from_a_bucket(uploaded: Any, prepared: Path, config: ConfigDict):
    assert read_manifest(DATA) == read_manifest(prepared)
    shards = check_shards(DATA, "train")
    assert shards == check_shards(prepared, "train")
    config.data.path = DATA
    here = make_config(path=str(prepared))
    assert load_tokenizer(config).pieces("a red cat") == load_tokenizer(here).pieces("a red cat")
    uploaded.pipe_file(f"{DATA}/{shards[0]['file']}", b"x")
    with pytest.raises(UserError, match=rf"{shards[0]['file']} has 1 bytes where the manifest says .*--output={DATA}"):
        check_shards(DATA, "train")
    uploaded.rm_file(f"{DATA}/{shards[0]['file']}")
    with pytest.raises(UserError, match=rf"{shards[0]['file']} is missing"):
        check_shards(DATA, "train")


def test_training_reads_the_same_batches_from_a_bucket(uploaded: Any, prepared: Path):
    found = []
    for path in (str(prepared), DATA):
        config = make_config(path=path)
        batches = iter(make_loader(config, load_tokenizer(config), batch_size=8, seed=3))
        found.append([next(batches) for _ in range(3)])
    for here, there in zip(*found, strict=True):
        assert here.keys() == there.keys()
        assert all(np.array_equal(here[name], there[name]) for name in here)


def records_of(reader: Any, positions: Any) -> list[Record]:
    return [Record.unpack(reader[position]) for position in positions]


@pytest.mark.parametrize("copied", [False, True])
def test_records_are_read_in_place_or_from_copies(copied: bool, uploaded: Any, prepared: Path, tmp_path: Path):
    here = open_split(prepared, "train")
    shards = check_shards(DATA, "train")
    reader = ShardReader(DATA, shards, Copies(10**9, tmp_path) if copied else None)
    assert len(reader) == len(here)
    order = np.random.default_rng(0).permutation(len(here))[:20]
    assert records_of(reader, order) == [here[int(position)] for position in order]
    assert len(list(tmp_path.glob("*.array_record"))) == (len(shards) if copied else 0)
    assert records_of(pickle.loads(pickle.dumps(reader)), [3]) == [here[3]]
    assert records_of(remote.open_shards(str(prepared), shards), [3]) == [here[3]]
    for position in (-1, len(here)):
        with pytest.raises(IndexError):
            reader[position]


def test_a_shard_is_opened_and_copied_when_it_is_read(uploaded: Any, tmp_path: Path):
    shards = check_shards(DATA, "train")
    reader = ShardReader(DATA, shards, Copies(10**9, tmp_path))
    assert not list(tmp_path.iterdir())
    reader[0]
    assert [file.name.split("-", 1)[1] for file in tmp_path.glob("*.array_record")] == [shards[0]["file"]]
    uploaded.rm_file(f"{DATA}/{shards[0]['file']}")
    ShardReader(DATA, shards, Copies(10**9, tmp_path))[0]  # another process reads the copy


def test_copies_keep_to_their_room_and_those_used_last_stay(uploaded: Any, tmp_path: Path):
    shards = check_shards(DATA, "train")
    room = sum(shard["bytes"] for shard in shards) - 1
    copies = Copies(room, tmp_path)
    for number in (0, 1, 0, 2):
        copies.fetch(f"{DATA}/{shards[number]['file']}", shards[number])
    assert {file.name.split("-", 1)[1] for file in tmp_path.glob("*.array_record")} == {
        shards[number]["file"] for number in (0, 2)
    }
    with pytest.raises(UserError, match=r"COPIES_GB=1e-08 has no room for gs://bucket/data/train"):
        Copies(10, tmp_path).fetch(f"{DATA}/{shards[0]['file']}", shards[0])


def test_damaged_and_unreachable_shards_are_named(uploaded: Any, tmp_path: Path):
    shards = check_shards(DATA, "train")
    url = f"{DATA}/{shards[0]['file']}"
    data = bytearray(uploaded.cat_file(url))
    data[len(data) // 2] ^= 1
    uploaded.pipe_file(url, bytes(data))
    with pytest.raises(
        UserError, match=r"gs://.* is damaged or another file: its sha256 is not what the manifest says"
    ):
        ShardReader(DATA, shards, Copies(10**9, tmp_path))[0]
    assert not list(tmp_path.glob("*.array_record")) and not list(tmp_path.glob(".*.partial"))
    uploaded.rm_file(url)
    with pytest.raises(UserError, match=r"gs://.* cannot be reached"):
        ShardReader(DATA, shards, Copies(10**9, tmp_path))[0]
    with pytest.raises(UserError, match=r"the shard gs://.* cannot be read \(.*\): check the URL"):
        ShardReader(DATA, shards)[0]
    with pytest.raises(UserError, match="only gs:// is read in place; give the room for copies"):
        ShardReader("s3://bucket/data", shards)


def test_a_reader_of_other_records_than_stated_is_named(prepared: Path):
    shards = [{**shard, "records": shard["records"] + 1} for shard in check_shards(prepared, "train")]
    with pytest.raises(UserError, match=r"holds \d+ records, but the manifest says"):
        remote.ShardReader(str(prepared), shards)[0]


@pytest.mark.parametrize(("room", "limit"), [("", None), ("0", None), ("2.5", 2_500_000_000)])
def test_the_room_for_copies_is_a_setting_of_the_machine(room: str, limit: int | None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(remote.ROOM, room)
    found = remote.copies_here()
    assert (found and found._limit) == limit
    for wrong in ("much", "-1", "nan"):
        monkeypatch.setenv(remote.ROOM, wrong)
        with pytest.raises(UserError, match=f"COPIES_GB={wrong} is not a number of gigabytes"):
            remote.copies_here()


@pytest.mark.hosts
def test_a_checkpoint_is_loaded_from_a_bucket(gcs: Any):
    """As `sample --checkpoint=gs://...` does: metadata by gcsfs, arrays by tensorstore's own client."""
    upload(gcs, Path(pipeline.DEMO), "gs://bucket/demo")
    here, there = (jax.tree.leaves(pipeline.load(place).params) for place in (None, "gs://bucket/demo"))
    assert len(here) == len(there) > 100
    assert all(np.array_equal(a, b) for a, b in zip(here, there, strict=True))
