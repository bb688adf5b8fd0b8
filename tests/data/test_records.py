import shutil
from pathlib import Path

import pytest

from ernie_vilg_jax.data import records
from ernie_vilg_jax.data.files import file_sha256
from ernie_vilg_jax.data.manifests import read_manifest
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
def test_invalid_bytes_of_a_record_are_reported(data: bytes):
    with pytest.raises(ValueError, match="not"):
        Record.unpack(data)


def test_a_shard_holds_the_records_in_order_and_equal_records_make_equal_bytes(tmp_path: Path):
    wanted = [record(n, "a") for n in range(5)] + [record(n, "b") for n in range(3)]
    entries = [records.write_shard(tmp_path / name, iter(wanted)) for name in ("one", "two")]
    assert list(records.read_shard(tmp_path / "one")) == wanted
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert entries[0]["sources"] == [["a", 5], ["b", 3]]
    assert entries[0]["captions"] == {"zh": 8, "en": 16}
    assert entries[0]["sha256"] == entries[1]["sha256"] == file_sha256(tmp_path / "one")


def test_a_shard_that_fails_half_way_leaves_nothing_under_its_name(tmp_path: Path):
    def broken():
        yield record(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        records.write_shard(tmp_path / "shard", broken())
    assert not list(tmp_path.iterdir())


def test_open_split_reads_every_record_and_knows_where_each_lies(prepared: Path):
    source = open_split(prepared, "train")
    ids = [source[index].id for index in range(len(source))]
    assert len(set(ids)) == len(ids) == read_manifest(prepared)["splits"]["train"]["records"]
    assert source.positions["scenes"] != [(0, 0), (1, 0)]
    assert sum(stop - start for start, stop in source.positions["scenes"]) == len(source)
    shard, place = source.locate(len(source) - 1)
    assert list(records.read_shard(Path(shard)))[place].id == ids[-1]


def test_without_verification_damage_shows_at_the_record(prepared: Path, tmp_path: Path):
    """The shards' own checksums, which remain if the comparison of sha256 is switched off."""
    copy = Path(shutil.copytree(prepared, tmp_path / "copy"))
    shard = sorted(copy.glob("train-*.array_record"))[0]
    data = bytearray(shard.read_bytes())
    data[2000:6000] = bytes(value ^ 0x5A for value in data[2000:6000])  # same size, damaged chunks
    shard.write_bytes(bytes(data))
    source = open_split(copy, "train", verify=False)
    with pytest.raises(UserError, match=r"train-00000-of-00003\.array_record is corrupt at record \d+"):
        for index in range(len(source)):
            source[index]
    with pytest.raises(UserError, match="its sha256 is not what the manifest says"):
        open_split(copy, "train")
