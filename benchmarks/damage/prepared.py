"""Damage to prepared data with intact files: reordered records, foreign shards, hostile notes."""

import json
import shutil
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.damage.files import name, swap
from benchmarks.damage.kinds import Damage, Place, Unfit


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.array_record"))


def shard_exchanged(place: Place, rng: Random) -> str:
    """Two shards exchanged, and their sizes in the manifest with them."""
    first, second = rng.sample(shards(place.part), 2)
    sizes = {first.name: second.stat().st_size, second.name: first.stat().st_size}
    swap(first, second)
    edit_shards(place.part, lambda entry: entry.update(bytes=sizes.get(entry["file"], entry["bytes"])))
    return f"{name(place, first)} and {second.name} exchanged, and their sizes in the manifest"


def edit_shards(folder: Path, change: Any) -> None:
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    for split in manifest["splits"].values():
        for entry in split["shards"]:
            change(entry)
    file.write_text(json.dumps(manifest, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


def shard_of_other_data(place: Place, rng: Random) -> str:
    shard = rng.choice(shards(place.part))
    shutil.copy(place.twin / shard.name, shard)
    if rng.random() < 0.5:
        return f"{name(place, shard)} is that of other data"
    size = shard.stat().st_size
    edit_shards(place.part, lambda e: e.update(bytes=size) if e["file"] == shard.name else None)
    return f"{name(place, shard)} is that of other data, and its size in the manifest"


def records_reordered(place: Place, rng: Random) -> str:
    """A valid shard written again by the library, with reordered, missing or repeated records."""
    from ernie_vilg_jax.data.records import read_shard, write_shard

    shard = rng.choice(shards(place.part))
    records = list(read_shard(shard))
    what = rng.choice(("reversed", "one missing", "one twice"))
    records = {"reversed": records[::-1], "one missing": records[:-1], "one twice": [*records, records[-1]]}[what]
    entry = write_shard(shard, records)
    size = entry["bytes"]
    edit_shards(place.part, lambda e: e.update(bytes=size) if e["file"] == shard.name else None)
    return f"the records of {name(place, shard)} written again: {what}"


def manifest_of_other_data(place: Place, rng: Random) -> str:
    file = place.part if place.part.is_file() else place.part / "manifest.json"
    shutil.copy(place.other / file.relative_to(place.copy), file)
    return f"{name(place, file)} is that of other data"


def hostile_shard_name(place: Place, rng: Random) -> str:
    """A manifest that names a shard elsewhere; the shard is there, so that only the name is wrong."""
    folder = place.part if place.part.is_dir() else place.part.parent
    shard = rng.choice(shards(folder))
    target = place.outside / shard.name
    shutil.copy(shard, target)
    climbing = f"../../outside/{shard.name}"
    after = rng.choice((str(target), climbing, f"./{shard.name}", f"tokenizer/../{shard.name}"))
    edit_shards(folder, lambda entry: entry.update(file=after) if entry["file"] == shard.name else None)
    return f"the manifest calls {name(place, shard)} {after}"


def hostile_note(place: Place, rng: Random) -> str:
    """A note of a finished shard, as interrupted runs leave them, that names a file elsewhere."""
    folder = place.part if place.part.is_dir() else place.part.parent
    manifest = json.loads((folder / "manifest.json").read_text())
    entry = dict(rng.choice([entry for split in manifest["splits"].values() for entry in split["shards"]]))
    notes = folder / ".progress"
    notes.mkdir(exist_ok=True)
    where = rng.choice((str(place.outside / "keep.txt"), "../../outside/keep.txt"))
    note = {"fingerprint": manifest["fingerprint"], "entry": {**entry, "file": where}, "rejected": [], "counts": {}}
    content = rng.choice((json.dumps(note), json.dumps([note]), "{", "", json.dumps({"entry": None})))
    (notes / f"{entry['file']}.json").write_text(content)
    if rng.random() < 0.5:
        (folder / "manifest.json").unlink()
    return f"{name(place, notes)} has a note on {entry['file']}: {content[:60]!r}"


def tokenizer_of_other_data(place: Place, rng: Random) -> str:
    file = rng.choice(sorted(file for file in place.part.iterdir() if file.suffix != ".json") or [place.part])
    if file == place.part:
        raise Unfit
    shutil.copy(place.twin / file.name, file)
    return f"{name(place, file)} is that of other data"


def pieces_exchanged(place: Place, rng: Random) -> str:
    """Exchanges two pieces of a SentencePiece vocabulary: the model loads, but encodes differently."""
    from sentencepiece import SentencePieceProcessor

    file = place.part / "sentencepiece.model"
    content = file.read_bytes()
    processor = SentencePieceProcessor(model_proto=content)
    # As in the file: tag of a string, length, bytes. Of equal length, so that nothing else moves.
    pieces = [processor.id_to_piece(number).encode() for number in range(processor.get_piece_size())]
    fields = [
        field for piece in pieces if b"<" not in piece and content.count(field := b"\n%c%s" % (len(piece), piece)) == 1
    ]
    a, b = rng.choice([(a, b) for i, a in enumerate(fields) for b in fields[:i] if len(a) == len(b) > 4])
    between = content.replace(a, b"\0" * len(a))
    file.write_bytes(between.replace(b, a).replace(b"\0" * len(a), b))
    return f"the pieces {a[2:].decode()!r} and {b[2:].decode()!r} of {name(place, file)} exchanged"


DATA = (
    Damage("shards exchanged", shard_exchanged),
    Damage("shard of other data", shard_of_other_data),
    Damage("records written again", records_reordered),
)
MANIFEST = (
    Damage("manifest of other data", manifest_of_other_data),
    Damage("hostile shard names", hostile_shard_name),
    Damage("hostile notes", hostile_note),
)
TOKENIZER = (Damage("tokenizer of other data", tokenizer_of_other_data), Damage("pieces exchanged", pieces_exchanged))
