"""One record to one training example: draw a caption, crop, and emphasise key words and salient objects.

    record + rng --draw--> Drawn: caption, key words, crop, boxes --arrays--> image or latents, tokens, weights

All randomness comes from `rng`, in a fixed order: three draws for the caption, three for a random crop, five for
knowledge. So switching knowledge off changes neither captions nor crops. If the data were encoded, the record has the
latents of one or several crops, and one of these is drawn: no image is read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from ernie_vilg_jax.config import downsampling
from ernie_vilg_jax.data.latents import Latents
from ernie_vilg_jax.data.pixels import Viewer
from ernie_vilg_jax.data.records import Record, RecordSource
from ernie_vilg_jax.data.tokenizers import Tokenizer
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.images import Crop
from ernie_vilg_jax.knowledge.emphasis import emphasise
from ernie_vilg_jax.knowledge.loss_weights import clip_boxes, crop_boxes, weight_map
from ernie_vilg_jax.knowledge.objects import append_objects, salient
from ernie_vilg_jax.knowledge.words import LANGUAGES, Word

Box = Sequence[float]


@dataclasses.dataclass(frozen=True)
class Knowledge:
    """The fields of `config.knowledge` that affect an example; see config.py for each."""

    text_rate: float
    special_tokens: bool
    attention_weight: float
    image_rate: float
    loss_weight: float
    min_score: float
    top_k: int
    append_rate: float
    generated_rate: float

    @staticmethod
    def of(config: ConfigDict) -> Knowledge | None:
        """None when `config.knowledge` is switched off. Raises UserError naming an invalid field."""
        settings = config.get("knowledge")
        if not settings or not settings.enabled or config.get("phase") == "autoencoder":
            return None
        for name in ("text_rate", "image_rate", "append_rate", "generated_rate"):
            if not 0 <= settings[name] <= 1:
                raise UserError(f"--config.knowledge.{name}={settings[name]} is a share of samples: give 0 to 1")
        for name in ("attention_weight", "loss_weight", "top_k"):
            if settings[name] < 0:
                raise UserError(f"--config.knowledge.{name}={settings[name]} must not be negative")
        return Knowledge(**{field.name: settings[field.name] for field in dataclasses.fields(Knowledge)})


class Drawn(NamedTuple):
    """The random choices for an example, before its conversion to arrays; `inspect_data` shows them."""

    record: Record
    index: int
    image: Image.Image | None  # whole; None if the record has latents in its place
    whole: tuple[float, float]  # its width and height
    crop: Crop
    latents: Latents | None  # of the crop
    text: str  # "" when the caption was dropped
    words: list[Word]  # of `text`; empty unless its key words are emphasised
    boxes: list[Box]  # of salient objects, in fractions of the crop; empty unless they are emphasised
    names: list[str]  # of these objects


@dataclasses.dataclass(frozen=True)
class ExampleMaker:
    """Position in a split -> example. A callable object, so that worker processes can unpickle it."""

    source: RecordSource
    tokenizer: Tokenizer
    viewer: Viewer
    downsampling: int
    language: str
    caption_dropout: float
    knowledge: Knowledge | None

    @staticmethod
    def of(config: ConfigDict, tokenizer: Tokenizer, source: RecordSource, *, train: bool) -> ExampleMaker:
        """`train` False: no dropout, central square crops, no knowledge."""
        if config.data.language not in (*LANGUAGES, "both"):
            raise UserError(f"config.data.language={config.data.language!r} must be 'zh', 'en' or 'both'")
        knowledge = Knowledge.of(config) if train else None
        if knowledge and knowledge.special_tokens and knowledge.text_rate and not tokenizer.symbol_ids:
            raise UserError(
                "the tokenizer's vocabulary has no entries for [n], [v], [a], [m], [q], [r] (nor [unused1] to "
                "[unused6]): add them, or set --config.knowledge.special_tokens=False"
            )
        return ExampleMaker(
            source=source,
            tokenizer=tokenizer,
            viewer=Viewer.of(config, train=train),
            downsampling=downsampling(config),
            language=config.data.language,
            caption_dropout=float(config.train.caption_dropout) if train else 0.0,
            knowledge=knowledge,
        )

    def __call__(self, position: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return self.arrays(self.draw(int(position), rng))

    def draw(self, index: int, rng: np.random.Generator) -> Drawn:
        record = self.source[index]
        chosen = self._choose(record, rng)
        if record.latents:
            latents = self._latents(record, index, rng)
            seen = None, latents.whole, latents.crop, latents
        else:
            image = self._decode(record, index)
            seen = image, image.size, self.viewer.draw(image, rng), None
        text = record.captions[chosen[0]][chosen[1]] if chosen else ""
        drawn = Drawn(record, index, *seen, text, [], [], [])
        if self.knowledge is None:
            return drawn
        return self._emphasise(drawn, chosen, self.knowledge, rng.random(5))

    def _choose(self, record: Record, rng: np.random.Generator) -> tuple[str, int] | None:
        """Language and number of the caption, or None to drop it."""
        # Always three draws, so that the captions of a record do not shift the randomness of other options.
        dropout, language, choice = rng.random(3)
        if dropout < self.caption_dropout:
            return None
        wanted = LANGUAGES if self.language == "both" else (self.language,)
        present = [name for name in wanted if record.captions.get(name)]
        if not present:
            raise UserError(
                f"record {record.id!r} has no caption in {' or '.join(wanted)}: set --config.data.language=both, "
                "or prepare records that have one"
            )
        name = present[int(language * len(present))]
        return name, int(choice * len(record.captions[name]))

    def _decode(self, record: Record, index: int) -> Image.Image:
        try:
            return self.viewer.decode(record)
        except ValueError as error:
            raise UserError(
                f"the image of {self._named(record, index)} cannot be decoded ({error}): "
                "fix or remove it in its source and prepare again"
            ) from error

    def _latents(self, record: Record, index: int, rng: np.random.Generator) -> Latents:
        """Those of the only crop, or of one that is drawn."""
        # As many draws as for a crop of an image, so that knowledge is drawn alike.
        place = int(rng.random(3)[0] * len(record.latents)) if self.viewer.random else 0
        try:
            return Latents.unpack(record.latents[place])
        except ValueError as error:
            raise UserError(f"{self._named(record, index)} is damaged ({error}): encode its images again") from error

    def _named(self, record: Record, index: int) -> str:
        shard, position = self.source.locate(index)
        return f"record {record.id!r} (record {position} of {shard})"

    def _emphasise(
        self, drawn: Drawn, chosen: tuple[str, int] | None, knowledge: Knowledge, draws: np.ndarray
    ) -> Drawn:
        in_text, in_image, append, generated, which = draws
        record = drawn.record
        shown = crop_boxes([item["box"] for item in record.objects], *drawn.crop, *drawn.whole)
        seen = [
            i
            for i in salient(record.objects, min_score=knowledge.min_score, top_k=knowledge.top_k)
            if clip_boxes([shown[i]])  # part of it is in the crop
        ]
        text, words = drawn.text, []
        if chosen is not None:
            language, number = chosen
            parsed = record.parsed.get(language) or []
            entry = parsed[number] if number < len(parsed) else {"words": [], "mentions": []}
            others = record.generated.get(language)
            if others and generated < knowledge.generated_rate:
                entry = others[int(which * len(others))]
                text = entry["text"]
            words = [Word(*word) for word in entry["words"]]
            if append < knowledge.append_rate:
                missing = [record.objects[i]["name"].get(language) for i in seen if i not in entry["mentions"]]
                names = list(dict.fromkeys(name for name in missing if name))
                text, words = append_objects(text, words, names, language)
        if in_image >= knowledge.image_rate:
            seen = []
        return drawn._replace(
            text=text,
            words=words if in_text < knowledge.text_rate else [],
            boxes=[shown[i] for i in seen],
            names=[" / ".join(record.objects[i]["name"].values()) for i in seen],
        )

    def arrays(self, drawn: Drawn) -> dict[str, np.ndarray]:
        """The example; its keys are those of `loader.Batch`."""
        weight = np.ones(self.tokenizer.max_length, np.float32)
        if drawn.words and self.knowledge is not None:
            ids, spans = self.tokenizer.pieces(drawn.text)
            ids, weights = emphasise(
                *(ids, spans, drawn.words),
                symbols=self.tokenizer.symbol_ids if self.knowledge.special_tokens else None,
                weight=self.knowledge.attention_weight,
                room=self.tokenizer.max_length - 2,
            )
            tokens, mask = self.tokenizer.frame(ids)
            count = min(len(ids), self.tokenizer.max_length - 2)
            weight[1 : 1 + count] = weights[:count]  # after the begin token
        else:
            tokens, mask, _ = self.tokenizer.encode(drawn.text)
        if drawn.latents is not None:
            content = {"mean": drawn.latents.mean, "log_variance": drawn.latents.log_variance}
            height, width, _ = drawn.latents.mean.shape
        else:
            assert drawn.image is not None
            content = {"image": self.viewer.pixels(drawn.image, drawn.crop)}
            height, width = (side // self.downsampling for side in content["image"].shape[:2])
        cells = height, width
        strength = self.knowledge.loss_weight if self.knowledge is not None else 0.0
        return {
            **content,
            "tokens": tokens,
            "token_mask": mask,
            "token_weight": weight,
            "loss_weight": weight_map(drawn.boxes, cells, strength) if drawn.boxes else np.ones(cells, np.float32),
            "index": np.int64(drawn.index),  # type: ignore[dict-item]
        }
