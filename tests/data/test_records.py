import shutil
from pathlib import Path

import pytest

from ernie_vilg_jax.data import records
from ernie_vilg_jax.data.records import Record, open_split
from ernie_vilg_jax.errors import UserError


def record(number: int, source: str = "toy") -> Record:
    return Record(
        id=f"{source}/{number}",
        image=bytes([number % 256]) * 50,
        captions={"zh": [f"第{number}张"], "en": [f"number {number}", "a number"]},
        concept=f"n{number}",
        source=source,
        objects=[{"name": {"en": "x"}, "box": [0.0, 0.25, 0.5, 1.0], "score": 1.0}],
    )


def test_a_record_survives_packing():
    assert Record.unpack(record(3).pack()) == record(3)


def test_fields_of_later_versions_are_ignored():
    import msgpack

    packed = msgpack.packb(msgpack.unpackb(record(1).pack()) | {"invented_later": 1})
    assert packed and Record.unpack(packed) == record(1)


@pytest.mark.parametrize("data", [b"", b"\xc1garbage", b"\x93\x01\x02\x03", b"\x80"])
def test_bytes_that_are_no_record_are_named_so(data: bytes):
    with pytest.raises(ValueError, match="not"):
        Record.unpack(data)


def test_a_shard_holds_the_records_in_order_and_equal_records_make_equal_bytes(tmp_path: Path):
    wanted = [record(n, "a") for n in range(5)] + [record(n, "b") for n in range(3)]
    entries = [records.write_shard(tmp_path / name, iter(wanted)) for name in ("one", "two")]
    assert list(records.read_shard(tmp_path / "one")) == wanted
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert entries[0]["sources"] == [["a", 5], ["b", 3]]
    assert entries[0]["captions"] == {"zh": 8, "en": 16}
    assert entries[0]["sha256"] == entries[1]["sha256"] == records.file_sha256(tmp_path / "one")


def test_a_shard_that_fails_half_way_leaves_nothing_under_its_name(tmp_path: Path):
    def broken():
        yield record(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        records.write_shard(tmp_path / "shard", broken())
    assert not (tmp_path / "shard").exists()


def test_open_split_reads_every_record_and_knows_where_each_lies(prepared: Path):
    source = open_split(prepared, "train")
    ids = [source[index].id for index in range(len(source))]
    assert len(set(ids)) == len(ids) == records.read_manifest(prepared)["splits"]["train"]["records"]
    assert source.positions["scenes"] != [(0, 0), (1, 0)]
    assert sum(stop - start for start, stop in source.positions["scenes"]) == len(source)
    shard, place = source.locate(len(source) - 1)
    assert list(records.read_shard(Path(shard)))[place].id == ids[-1]


@pytest.fixture
def copy(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "copy"))


def first_shard(path: Path) -> Path:
    return sorted(path.glob("train-*.array_record"))[0]


def test_a_missing_directory_says_what_to_run(tmp_path: Path):
    with pytest.raises(UserError, match=r"python -m ernie_vilg_jax\.prepare"):
        open_split(tmp_path / "nowhere", "train")


def test_an_unfinished_directory_is_refused(copy: Path):
    (copy / "manifest.json").unlink()
    with pytest.raises(UserError, match="did not finish"):
        open_split(copy, "train")


@pytest.mark.parametrize("text", ["{", "[]", '{"fingerprint": ""}'])
def test_a_damaged_manifest_is_named(copy: Path, text: str):
    (copy / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=r"manifest\.json is damaged"):
        open_split(copy, "train")


def test_another_schema_is_named(copy: Path):
    manifest = records.read_manifest(copy)
    records.write_json(copy / "manifest.json", manifest | {"schema": 99})
    with pytest.raises(UserError, match="schema 99"):
        open_split(copy, "train")


def test_an_unknown_split_is_named(copy: Path):
    with pytest.raises(UserError, match="no split 'test'"):
        open_split(copy, "test")


def test_a_missing_shard_is_named(copy: Path):
    first_shard(copy).unlink()
    with pytest.raises(UserError, match=r"train-00000-of-00003\.array_record is missing: run"):
        open_split(copy, "train")


def test_a_truncated_shard_is_named(copy: Path):
    shard = first_shard(copy)
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"train-00000-of-00003\.array_record has \d+ bytes"):
        open_split(copy, "train")


def test_a_corrupt_shard_is_named_with_the_record(copy: Path):
    shard = first_shard(copy)
    data = bytearray(shard.read_bytes())
    data[2000:6000] = bytes(value ^ 0x5A for value in data[2000:6000])  # same size, damaged chunks
    shard.write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"train-00000-of-00003\.array_record is corrupt at record \d+"):
        source = open_split(copy, "train")
        for index in range(len(source)):
            source[index]
    with pytest.raises(UserError, match="sha256"):
        records.check_shards(copy, "train", full=True)


def test_a_shard_that_is_no_array_record_is_named(copy: Path):
    shard = first_shard(copy)
    shard.write_bytes(b"\0" * shard.stat().st_size)
    with pytest.raises(UserError, match="corrupt"):
        source = open_split(copy, "train")
        source[0]
