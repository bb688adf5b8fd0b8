"""WordPiece vocabularies: read so that every token keeps the id that the weights were trained with.

    vocab.txt         a token a line, whose number is its id; or Paddle's lines of token, tab, id
    tokenizer.json    the same as JSON, of the library `tokenizers`
    a model's name    on the hub, through transformers

Lines end at "\\n" only: vocabularies have tokens such as U+2028, at which Python's `splitlines` would split. Of
duplicate lines the last one has the token, and the ids of the others stay unused, as in transformers, so that later ids
do not shift. Spaces at the end of a line are not part of the token, because it would not match any text with them.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from absl import logging

from ernie_vilg_jax.data.tokenizers.base import SETTINGS, VOCABULARY
from ernie_vilg_jax.errors import UserError, file_errors, first_line
from ernie_vilg_jax.paths import local

PAD, UNKNOWN = "[PAD]", "[UNK]"
SPECIAL = (PAD, UNKNOWN, "[CLS]", "[SEP]", "[MASK]")
CONFIG = "tokenizer_config.json"
_CLASSES = re.compile(r"(Bert|DistilBert|Electra|Ernie|PreTrained)Tokenizer(Fast)?|TokenizersBackend")
"""Tokenizers of transformers and Paddle that are BERT's."""
_PADDLE = re.compile(r"(?P<token>[^\t\n]*)\t(?P<id>\d{1,9})")
_MOST = 10_000_000
"""Limit of ids in a vocabulary: more are a mistake in a file, and would fill the memory with empty lines."""


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Tokens with their ids, and BERT's rules for splitting text into words; the names are those of transformers.

    Attributes:
      text: a token a line, whose number is its id, and empty lines for ids without one.
      do_lower_case: whether text is lower-cased.
      strip_accents: whether accents are removed; None is the same as do_lower_case.
      tokenize_chinese_chars: whether each Chinese character is a word.
    """

    text: str
    do_lower_case: bool = True
    strip_accents: bool | None = None
    tokenize_chinese_chars: bool = True

    @functools.cached_property
    def ids(self) -> Mapping[str, int]:
        """Token -> id."""
        ids = {line.rstrip(): number for number, line in enumerate(self._lines)}
        ids.pop("", None)
        return ids

    @property
    def size(self) -> int:
        """One more than the largest id."""
        return len(self._lines)

    @property
    def _lines(self) -> list[str]:
        return self.text.removesuffix("\n").split("\n") if self.text else []

    def options(self) -> dict[str, Any]:
        """All but the text."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "text"}

    def other_options(self) -> dict[str, Any]:
        """The options that differ from the defaults."""
        usual = Vocabulary("").options()
        return {name: value for name, value in self.options().items() if value != usual[name]}

    @staticmethod
    def of(text: str, settings: Mapping[str, Any], where: str) -> Vocabulary:
        """The vocabulary with those of `settings` that are options. UserError if one has a value of another type."""
        options: dict[str, Any] = {}
        for name in Vocabulary("").options():
            value = settings.get(name, getattr(Vocabulary, name))
            if not isinstance(value, bool) and (name != "strip_accents" or value is not None):
                raise UserError(f"{where}: {name}={value!r:.50} must be true or false; correct it there")
            options[name] = value
        return Vocabulary(text, **options)

    @staticmethod
    def with_ids(ids: Iterable[tuple[str, Any]], settings: Mapping[str, Any], where: str) -> Vocabulary:
        """The vocabulary of tokens with these ids, without those with trailing spaces, which no text matches."""
        tokens: dict[int, str] = {}
        for token, number in ids:
            if not isinstance(number, int) or not 0 <= number < _MOST:
                raise UserError(f"{where}: {token!r:.50} has the id {number!r:.50}; get the file again")
            if tokens.setdefault(number, token) != token:
                raise UserError(
                    f"{where}: {token!r:.50} has the id of {tokens[number]!r:.50}, {number}; get the file again"
                )
        lines = [tokens.get(number, "") for number in range(max(tokens, default=-1) + 1)]
        lines = [line if line == line.rstrip() and "\n" not in line else "" for line in lines]
        return Vocabulary.of("\n".join([*lines, ""]), settings, where)


def read_vocabulary(path: str) -> Vocabulary:
    """The vocabulary of a vocab.txt or tokenizer.json, of the folder of either, or of a model on the hub.

    Raises UserError if there is none, or one that is not a BERT's.
    """
    if not path:
        raise UserError("config.tokenizer.path is empty: give a vocab.txt, its directory or a model name on the hub")
    given = local(path, "config.tokenizer.path")
    folder = given if given.is_dir() else given.parent
    if given.is_file():
        files = [given]
    else:
        files = [file for name in (VOCABULARY, SETTINGS) if (file := given / name).is_file()]
    if not files:
        return _from_hub(path)
    with file_errors(given):
        stated = _json(folder / CONFIG) if (folder / CONFIG).is_file() else None
        ours = _json(folder / SETTINGS) if (folder / SETTINGS).is_file() and given.suffix != ".json" else {}
        if isinstance(ours.get("kind"), str):  # a folder that `save` wrote
            files, stated = files[:1], ours
        read = [_read_file(file, stated) for file in files]
    if len(read) > 1:
        _check_same(folder, *read)
    return read[0] if len(read) == 1 else dataclasses.replace(read[0], **read[1].options())


def _read_file(file: Path, stated: Mapping[str, Any] | None) -> Vocabulary:
    """`stated`: the content of tokenizer_config.json, None if there is none."""
    name = (stated or {}).get("tokenizer_class") or "BertTokenizer"
    if not _CLASSES.fullmatch(str(name)):
        raise UserError(
            f"{file.parent / CONFIG}: its tokenizer_class is {name!r:.80}, and config.tokenizer.kind='bert' takes "
            "BERT's tokenizer alone: give the vocabulary of a BERT or ERNIE"
        )
    if file.suffix == ".json":
        return _from_json(_json(file), stated, str(file))
    try:
        text = file.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file} is not UTF-8 text ({error.reason} at byte {error.start}): get the file again"
        ) from error
    if (ids := _paddle(text, str(file))) is not None:
        return Vocabulary.with_ids(ids, stated or {}, str(file))
    return Vocabulary.of(text, stated or {}, str(file))


def _paddle(text: str, where: str) -> list[tuple[str, int]] | None:
    """(token, id) of lines of token, tab, id; None if the lines are not of that form."""
    lines = text.removesuffix("\n").split("\n")
    rows = [_PADDLE.fullmatch(line) for line in lines]
    if not rows[0]:
        return None
    if None in rows:
        number = rows.index(None)
        raise UserError(
            f"{where}, line {number + 1}: {lines[number]!r:.50} is not a token, a tab and an id, as the lines before "
            "it are; get the file again"
        )
    return [(row["token"], int(row["id"])) for row in rows if row]


def _from_json(content: Mapping[str, Any], stated: Mapping[str, Any] | None, where: str) -> Vocabulary:
    """The vocabulary of a tokenizer.json; `stated`, as in `_read_file`, takes precedence, as in transformers."""
    model, normalizer = content.get("model"), content.get("normalizer") or {}
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict) or not isinstance(normalizer, dict):
        raise UserError(f"{where} is not the tokenizer.json of a BERT: it has no vocabulary with ids; give a vocab.txt")
    kinds = {
        "model": (model.get("type", "WordPiece"), "WordPiece"),
        "unk_token": (model.get("unk_token"), UNKNOWN),
        "continuing_subword_prefix": (model.get("continuing_subword_prefix"), "##"),
        "normalizer": (normalizer.get("type", "BertNormalizer"), "BertNormalizer"),
    }
    for name, (found, wanted) in kinds.items():
        if found != wanted:
            raise UserError(
                f"{where}: its {name} is {found!r:.80}, and config.tokenizer.kind='bert' takes {wanted!r} alone: give "
                "the vocabulary of a BERT or ERNIE"
            )
    ids = dict(model["vocab"])
    for added in _added(content, where):
        if not added.get("special") and added["content"] not in ids:
            raise UserError(
                f"{where}: {added['content']!r:.80} was added to its vocabulary as a word, which WordPiece would cut: "
                "give a vocabulary that holds it"
            )
        ids.setdefault(added["content"], added["id"])
    theirs = {
        "do_lower_case": normalizer.get("lowercase", True),
        "strip_accents": normalizer.get("strip_accents"),
        "tokenize_chinese_chars": normalizer.get("handle_chinese_chars", True),
    }
    found = Vocabulary.with_ids(ids.items(), theirs if stated is None else stated, where)
    if normalizer and found.options() != theirs:
        logging.warning("%s: %s has other options, %s; those of %s count", where, SETTINGS, theirs, CONFIG)
    return found


def _added(content: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    found = content.get("added_tokens") or []
    if not isinstance(found, list):
        raise UserError(f"{where}: its added_tokens are not a list: get the file again")
    for added in found:
        if not isinstance(added, dict) or not isinstance(added.get("content"), str) or "id" not in added:
            raise UserError(f"{where}: {added!r:.80} among its added_tokens has no content and id: get the file again")
    return found


def _check_same(folder: Path, one: Vocabulary, other: Vocabulary) -> None:
    """Raises UserError if the two files of a folder give a token different ids."""
    for token in sorted(one.ids.keys() & other.ids.keys()):
        if one.ids[token] != other.ids[token]:
            raise UserError(
                f"{folder}: {token!r:.50} is {one.ids[token]} in {VOCABULARY} and {other.ids[token]} in {SETTINGS}: "
                "remove the file that does not belong to the weights"
            )
    if alone := one.ids.keys() ^ other.ids.keys():
        logging.info("%s: tokens in one of %s and %s alone: %d", folder, VOCABULARY, SETTINGS, len(alone))


def _from_hub(name: str) -> Vocabulary:
    try:
        from transformers import AutoTokenizer

        loaded = AutoTokenizer.from_pretrained(name)
        content = json.loads(loaded.backend_tokenizer.to_str())
    except Exception as error:  # hub, network and parsing errors all mean: no vocabulary
        raise UserError(
            f"config.tokenizer.path={name!r} is neither a vocab.txt nor a model whose vocabulary can be loaded "
            f"({first_line(error)})"
        ) from error
    return _from_json(content, None, name)


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not JSON ({str(error)[:100]}): get the file again") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} is not a JSON object: get the file again")
    return content
