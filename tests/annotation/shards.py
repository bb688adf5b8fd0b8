"""Shards of annotated data: read completely, and corrupted, for the annotation tests."""

from collections.abc import Callable
from pathlib import Path

from ernie_vilg_jax.data.files import file_sha256, sealed_json
from ernie_vilg_jax.data.manifests import read_manifest
from ernie_vilg_jax.data.records import Record, read_shard

SHARD = "train-00001-of-00003.array_record"


def all_records(path: Path) -> list[Record]:
    shards = [shard for split in read_manifest(path)["splits"].values() for shard in split["shards"]]
    return [record for shard in shards if shard["records"] for record in read_shard(path / shard["file"])]


def rewrite(path: Path, shard: str, change: Callable[[int, bytes], bytes]) -> None:
    """Changes the bytes of a shard's records, and its manifest to match."""
    from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

    reader = array_record_module.ArrayRecordReader(str(path / shard))
    rows = [change(n, reader.read([n])[0]) for n in range(reader.num_records())]
    reader.close()
    writer = array_record_module.ArrayRecordWriter(str(path / shard), "group_size:1")
    for row in rows:
        writer.write(row)
    writer.close()
    manifest = read_manifest(path)
    for entry in (entry for split in manifest["splits"].values() for entry in split["shards"]):
        if entry["file"] == shard:
            entry |= {"bytes": (path / shard).stat().st_size, "sha256": file_sha256(path / shard)}
    (path / "manifest.json").write_bytes(sealed_json(manifest))
