"""Annotates a batch of records: decode, detect, caption, translate, parse.

Each step takes the records that no earlier step set aside. A record that a step cannot process is set aside with a
reason. If a model fails for a whole batch, the model is at fault, and the run stops.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ernie_vilg_jax.annotation.detectors import Detection
from ernie_vilg_jax.data.records import Record
from ernie_vilg_jax.errors import UserError, first_line

_ROW = 8
"""This many failures in a row are the model's fault."""


@dataclasses.dataclass(frozen=True)
class Tools:
    """The tools; all but the tagger may be None. `captioner_name` is noted beside each generated caption."""

    tagger: Any
    detector: Any = None
    captioner: Any = None
    translator: Any = None
    captioner_name: str = ""


@dataclasses.dataclass
class Item:
    """One record during annotation.

    Attributes:
      position: in its shard.
      data: its original bytes.
      record: the record as annotated so far; None if its bytes cannot be decoded.
      salient: indices of its salient objects.
      reason: why it is set aside, or "".
    """

    position: int
    data: bytes
    record: Record | None = None
    image: Any = None
    salient: Sequence[int] = ()
    reason: str = ""

    @property
    def known(self) -> Record:
        assert self.record is not None
        return self.record

    def change(self, **fields: Any) -> None:
        self.record = dataclasses.replace(self.known, **fields)


def annotate_batch(items: Sequence[Item], tools: Tools) -> None:
    """Annotates the items in place."""
    for item in items:
        _unpack(item)
    if tools.detector or tools.captioner:
        for item in _live(items):
            _decode(item)
    if tools.detector:
        _together(items, "detector", lambda live: tools.detector.detect(*_images(live)), _set_objects)
    if tools.captioner:
        by = tools.captioner_name
        captions = tools.captioner.captions
        _together(items, "captioner", lambda live: captions(*_images(live)), lambda i, c: _set_generated(i, c, by))
    if tools.translator:
        _together(items, "translator", lambda live: _translations(tools.translator, live), _set_translated)
    for item in items:
        item.image = None
    for item in _live(items):
        _parse(item, tools.tagger)


def _live(items: Sequence[Item]) -> list[Item]:
    return [item for item in items if not item.reason]


def _line(error: Exception) -> str:
    """Type and first line of an error, without addresses in memory: the same error must give the same reason."""
    text = re.sub(r" at 0x[0-9a-f]+", "", first_line(error))
    return text if type(error) is ValueError or not str(error).strip() else f"{type(error).__name__}: {text}"


def _unpack(item: Item) -> None:
    try:
        record = Record.unpack(item.data)
        if not isinstance(record.id, str) or not isinstance(record.source, str):
            raise ValueError("its id or source is no text")
    except (ValueError, TypeError) as error:
        item.reason = f"no record: {_line(error)}"
    else:
        item.record = record


def _decode(item: Item) -> None:
    from ernie_vilg_jax.images import decode_image

    try:
        item.image = decode_image(item.known.image)
    except (ValueError, TypeError) as error:
        item.reason = f"the image cannot be decoded: {_line(error)}"


def _together(
    items: Sequence[Item],
    tool: str,
    call: Callable[[list[Item]], Sequence[Any]],
    keep: Callable[[Item, Any], None],
) -> None:
    """Runs a tool on the batch; if that fails, on each record alone, to find the one at fault."""
    live = _live(items)
    if not live:
        return
    try:
        results = list(call(live))
        if len(results) != len(live):
            raise ValueError(f"{len(results)} results for {len(live)} records")
        for item, result in zip(live, results, strict=True):
            keep(item, result)
    except (UserError, MemoryError):
        raise
    except Exception as error:
        if len(live) == 1:
            live[0].reason = f"{tool}: {_line(error)}"
            return
        for item in live:
            _together([item], tool, call, keep)
        if len(live) >= _ROW and not _live(live):
            raise UserError(
                f"the {tool} failed for each of {len(live)} records in a row ({live[0].reason}): "
                f"check --{tool} and --{tool}_options, the records are hardly at fault"
            ) from error


def _images(items: Sequence[Item]) -> tuple[list[Any], list[str]]:
    return [item.image for item in items], [item.known.id for item in items]


def _set_objects(item: Item, detections: Sequence[Detection]) -> None:
    item.change(objects=[found.as_object() for found in detections])


def _set_generated(item: Item, captions: Mapping[str, str], by: str) -> None:
    item.change(generated={language: [{"text": text, "by": by}] for language, text in captions.items() if text})


def _translations(translator: Any, items: Sequence[Item]) -> list[tuple[list[str], list[str]]]:
    """For each record with only English captions, their Chinese translations, and those of its generated captions."""
    wanted = [
        (
            [] if item.known.captions.get("zh") else list(item.known.captions.get("en", ())),
            [] if item.known.generated.get("zh") else [entry["text"] for entry in item.known.generated.get("en", ())],
        )
        for item in items
    ]
    texts = [text for captions, generated in wanted for text in (*captions, *generated)]
    results = list(translator.translate(texts)) if texts else []
    if len(results) != len(texts):
        raise ValueError(f"{len(results)} results for {len(texts)} texts")
    chinese = iter(results)
    return [([next(chinese) for _ in captions], [next(chinese) for _ in generated]) for captions, generated in wanted]


def _set_translated(item: Item, chinese: tuple[list[str], list[str]]) -> None:
    captions, generated = chinese
    record = item.known
    if captions:
        item.change(captions={**record.captions, "zh": captions}, translated=[*record.translated, "zh"])
    if generated:
        entries = [
            {"text": text, "by": f"{entry['by']}, translated"}
            for text, entry in zip(generated, record.generated["en"], strict=True)
        ]
        item.change(generated={**record.generated, "zh": entries})


def _parse(item: Item, tagger: Any) -> None:
    """Words and mentions of every caption, given or generated; replaces those of an earlier annotation."""
    from ernie_vilg_jax.annotation.mentions import mentioned
    from ernie_vilg_jax.knowledge.objects import salient

    record = item.known

    def parsed(caption: str, language: str) -> dict[str, Any]:
        words = tagger.words(caption)
        if any(not 0 <= word.start < word.end <= len(caption) for word in words):
            raise ValueError(f"a word outside the caption {caption!r}")
        named = mentioned(record.objects, caption, words, language)
        return {"words": [[word.start, word.end, word.pos] for word in words], "mentions": [int(i) for i in named]}

    try:
        item.change(
            parsed={
                language: [parsed(caption, language) for caption in captions]
                for language, captions in record.captions.items()
            },
            generated={
                language: [{**entry, **parsed(entry["text"], language)} for entry in entries]
                for language, entries in record.generated.items()
            },
        )
        item.salient = salient(record.objects)
        item.known.pack()  # raises here, not later in the shard, if it cannot be written
    except (UserError, MemoryError):
        raise
    except Exception as error:
        item.reason = f"tagger: {_line(error)}"
