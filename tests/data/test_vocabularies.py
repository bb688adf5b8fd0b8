"""Vocabularies of each kind against AutoTokenizer of transformers: the same ids, in every format."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from etils import epath
from ml_collections import ConfigDict
from transformers import AutoTokenizer

from ernie_vilg_jax import checkpointing
from ernie_vilg_jax.config import default_config
from ernie_vilg_jax.data.tokenizers import BertTokenizer, given_tokenizer, load_tokenizer, read_vocabulary
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.interop import bert
from ernie_vilg_jax.interop.convert import export_text_encoder, import_text_encoder
from ernie_vilg_jax.interop.safetensors_files import write_folder
from tests.made_vocabulary import SEPARATORS, SIZE, made_vocabulary

BASE = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"
WORDS = "a\nA\nred\nRed\n##s\ne\né\nE\nÉ\n猫\n色\n红\n猫色\nthe\n!\nβ\n"
TEXTS = [
    "一只红色的猫",
    "Red É é cats reds!",
    "猫色 RED the  a\u2028a\x85红",
    "",
    "β A\u0301 e\u0301",
    "a\x00b \ufeffa",
]
SMALL = {
    "plain": BASE + WORDS,
    "no end": (BASE + WORDS).removesuffix("\n"),
    "CRLF": (BASE + WORDS).replace("\n", "\r\n"),
    "line separators": BASE + "\u2028\na\n\x85\n猫\n\x0c\n##\u2028\nred\n\u3000\n##s\n\u2029\n红\n" + WORDS,
    "repeated lines": BASE + "猫\na\n猫\n红\na\nred\n" + WORDS,
    "empty lines": BASE + "\n\na\n\nred\n猫\n\n红\n",
    "spaces at the end": BASE + "a \nred\t\n猫\u3000\n红\n",
}
VOCABULARIES = {**SMALL, "of bert-base-chinese's structure": made_vocabulary()}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"do_lower_case": False},
    {"strip_accents": False},
    {"do_lower_case": False, "strip_accents": True},
    {"tokenize_chinese_chars": False},
]


def folder_of(path: Path, text: str | None, options: dict[str, Any] | None = None) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    if text is not None:
        (path / "vocab.txt").write_bytes(text.encode())
    (path / "config.json").write_text('{"model_type": "bert"}')
    if options is not None:
        (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", **options}))
    return path


def assert_same(ours: Any, theirs: Any) -> None:
    """Every token that text can be cut into has the same id, and texts the same ids."""
    assert isinstance(ours, BertTokenizer)
    assert {k: v for k, v in theirs.get_vocab().items() if k.strip()} == dict(ours.vocabulary.ids)
    for text in TEXTS:
        expected = theirs(text, add_special_tokens=False)["input_ids"]
        assert ours.pieces(text)[0] == expected
        framed = theirs(text, padding="max_length", truncation=True, max_length=ours.max_length)
        np.testing.assert_array_equal(ours.encode(text)[0], framed["input_ids"])


def settings(path: Path, size: int) -> ConfigDict:
    return ConfigDict({"kind": "bert", "path": str(path), "max_length": 12, "vocab_size": size})


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", VOCABULARIES)
def test_a_vocabulary_is_read_as_transformers_does(kind: str, options: dict[str, Any], tmp_path: Path):
    text = VOCABULARIES[kind]
    source = folder_of(tmp_path / "source", text, options)
    theirs = AutoTokenizer.from_pretrained(str(source))
    size = text.removesuffix("\n").count("\n") + 1
    from_text = given_tokenizer(settings(source, size))
    assert from_text is not None
    assert_same(from_text, theirs)
    theirs.save_pretrained(str(tmp_path / "json"))
    assert not (tmp_path / "json" / "vocab.txt").exists()
    from_json = BertTokenizer(read_vocabulary(str(tmp_path / "json")), 12)
    assert_same(from_json, theirs)
    assert size - from_json.vocab_size in (0, 1)  # an empty last line is not in the JSON
    for number, ours in enumerate((from_text, from_json)):
        ours.save(tmp_path / f"saved{number}")
        assert_same(load_tokenizer(tmp_path / f"saved{number}"), theirs)
        again = BertTokenizer(read_vocabulary(str(tmp_path / f"saved{number}")), 12)
        assert checkpointing.same_tokenizer(again, ours)


def test_tokens_keep_their_ids(tmp_path: Path):
    ours = BertTokenizer(read_vocabulary(str(folder_of(tmp_path, VOCABULARIES["repeated lines"]))), 12)
    ids = ours.vocabulary.ids
    assert (ids["猫"], ids["a"], ids["red"], ids["红"]) == (20, 11, 13, 22)  # the last lines with these tokens
    assert ours.decode([5, 6, 7, 11]) == "a"  # ids of the other lines are unused
    made = read_vocabulary(str(folder_of(tmp_path / "made", made_vocabulary())))
    assert made.size == SIZE and all(made.ids[token] == n for n, token in enumerate(made.text.split("\n")[:343]))
    assert not set(SEPARATORS.values()) & set(made.ids)


@pytest.mark.parametrize("order", [1, -1])
def test_paddles_lines_of_token_tab_and_id(order: int, tmp_path: Path):
    tokens = [*BASE.split(), "猫", "a", "猫", "红", "\u2028", "red", "#", "##s"]
    lines = [f"{token}\t{number}" for number, token in enumerate(tokens)][::order]
    (tmp_path / "vocab.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    ours = BertTokenizer(read_vocabulary(str(tmp_path)), 12)
    plain = folder_of(tmp_path / "plain", "\n".join(tokens), {})
    assert_same(ours, AutoTokenizer.from_pretrained(str(plain)))
    assert ours.vocab_size == len(tokens)


def text_encoder(path: Path, text: str, options: dict[str, Any]) -> Path:
    """A folder of a BERT with random weights, and of its vocabulary."""
    fields = {"width": 8, "num_layers": 1, "num_heads": 2, "norm": "post", "activation": "gelu", "mlp_width": 0}
    sizes = (text.removesuffix("\n").count("\n") + 1, 12)
    rng = np.random.default_rng(0)
    shapes = bert.abstract({**fields, "norm_epsilon": 1e-12}, *sizes)
    params = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32), shapes)
    write_folder(epath.Path(path), *bert.write({**fields, "norm_epsilon": 1e-12}, params, *sizes, 0))
    (path / "vocab.txt").write_bytes(text.encode())
    (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", **options}))
    return path


@pytest.mark.parametrize(
    ("kind", "options"),
    [("line separators", {}), ("repeated lines", {"do_lower_case": False}), ("of bert-base-chinese's structure", {})],
)
def test_import_checkpoint_and_export_keep_it(kind: str, options: dict[str, Any], tmp_path: Path):
    source = text_encoder(tmp_path / "bert", VOCABULARIES[kind], options)
    theirs = AutoTokenizer.from_pretrained(str(source))
    told = import_text_encoder(source, tmp_path / "imported", max_length=12)
    ours = checkpointing.read_tokenizer(epath.Path(tmp_path / "imported"))
    assert_same(ours, theirs)
    assert f"a vocabulary of {ours.vocab_size}" in told
    export_text_encoder(tmp_path / "imported", tmp_path / "exported")
    assert_same(ours, AutoTokenizer.from_pretrained(str(tmp_path / "exported")))
    assert checkpointing.same_tokenizer(
        ours, BertTokenizer(read_vocabulary(str(tmp_path / "exported")), ours.max_length)
    )


def test_a_tokenizer_of_an_older_checkpoint_has_the_usual_options(tmp_path: Path):
    (tmp_path / "tokenizer.json").write_text('{"kind": "bert", "max_length": 12}\n')
    (tmp_path / "vocab.txt").write_text(BASE + WORDS, encoding="utf-8")
    ours = load_tokenizer(tmp_path)
    theirs = folder_of(tmp_path / "theirs", BASE + WORDS, {})
    assert_same(ours, AutoTokenizer.from_pretrained(str(theirs)))
    ours.save(tmp_path / "saved")
    for name in ("tokenizer.json", "vocab.txt"):
        assert (tmp_path / "saved" / name).read_bytes() == (tmp_path / name).read_bytes()


def change(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def apply(content: dict[str, Any]) -> None:
        for path, value in changes.items():
            *parents, last = path.split("__")
            place = content
            for parent in parents:
                place = place[parent]
            place[last] = value

    return apply


CAT = {"id": 900, "content": "cat", "special": False}
REFUSED: list[tuple[Callable[[dict[str, Any]], None], str]] = [
    (change(model__type="BPE"), "its model is 'BPE', and .* takes 'WordPiece' alone"),
    (change(model__continuing_subword_prefix="@@"), "its continuing_subword_prefix is '@@'"),
    (change(model__unk_token="<unk>"), "its unk_token is '<unk>'"),
    (change(normalizer={"type": "NFKC"}), "its normalizer is 'NFKC'"),
    (change(model__vocab__red=6), r"has the id of '.+', 6"),
    (change(model__vocab__red=-1), "'red' has the id -1"),
    (change(model__vocab__red=10**9), "'red' has the id 1000000000"),
    (change(model__vocab__red="7"), "'red' has the id '7'"),
    (change(model__vocab=["red"]), "has no vocabulary with ids"),
    *(
        (change(added_tokens=[one]), "among its added_tokens has no content and id")
        for one in (3, None, [], {}, {"content": "x"}, {"id": 3}, {"content": ["x"], "id": 3})
    ),
    (change(added_tokens={"content": "x", "id": 3}), "its added_tokens are not a list"),
    (change(added_tokens=[CAT]), "'cat' was added to its vocabulary as a word"),
]


@pytest.mark.parametrize(("edit", "message"), REFUSED, ids=[message[:30] for _, message in REFUSED])
def test_other_vocabularies_are_refused_by_name(edit: Callable[[dict[str, Any]], None], message: str, tmp_path: Path):
    theirs = AutoTokenizer.from_pretrained(str(folder_of(tmp_path / "source", BASE + WORDS, {})))
    content = json.loads(theirs.backend_tokenizer.to_str())
    edit(content)
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        read_vocabulary(str(tmp_path))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tokenizer_config.json": '{"tokenizer_class": "BertJapaneseTokenizer"}'}, "class is 'BertJapaneseTokenizer'"),
        ({"tokenizer_config.json": '{"do_lower_case": "no"}'}, "do_lower_case='no' must be true or false"),
        ({"tokenizer_config.json": "{"}, "tokenizer_config.json is not JSON"),
        ({"tokenizer_config.json": "[]"}, "tokenizer_config.json is not a JSON object"),
        ({"tokenizer.json": "[" * 100_000}, "tokenizer.json is not JSON"),
        ({"vocab.txt": b"\xff\xfe[\0"}, r"vocab.txt is not UTF-8 text \(invalid start byte at byte 0\)"),
        ({"vocab.txt": "[PAD]\t0\n[UNK]\n"}, r"vocab.txt, line 2: '\[UNK\]' is not a token, a tab and an id"),
        ({"vocab.txt": "[PAD]\t0\n[UNK]\t0\n"}, r"'\[UNK\]' has the id of '\[PAD\]', 0"),
        ({"vocab.txt": "a\nb\n[UNK]"}, r"3 lines lacks \[PAD\], \[CLS\], \[SEP\]: it is not a BERT's vocab.txt"),
    ],
    ids=str,
)
def test_damaged_vocabularies_are_one_sentence(files: dict[str, Any], message: str, tmp_path: Path):
    folder_of(tmp_path, BASE + WORDS)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError, match=message):
        BertTokenizer(read_vocabulary(str(tmp_path)), 12)


def test_two_files_that_disagree_are_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    source = folder_of(tmp_path / "source", BASE + WORDS, {"do_lower_case": False})
    AutoTokenizer.from_pretrained(str(source)).save_pretrained(str(tmp_path))
    (tmp_path / "vocab.txt").write_text(BASE + WORDS, encoding="utf-8")
    both = read_vocabulary(str(tmp_path))
    assert both.text == BASE + WORDS and not both.do_lower_case
    (tmp_path / "tokenizer_config.json").unlink()
    assert read_vocabulary(str(tmp_path)) == both  # tokenizer.json says it as well
    (tmp_path / "tokenizer_config.json").write_text("{}")
    caplog.set_level(logging.WARNING)
    assert read_vocabulary(str(tmp_path)).do_lower_case and "has other options" in caplog.text
    (tmp_path / "vocab.txt").write_text(BASE + "one\n" + WORDS, encoding="utf-8")
    with pytest.raises(UserError, match=r"'!' is 20 in vocab\.txt and 19 in tokenizer\.json: remove the file"):
        read_vocabulary(str(tmp_path))


def test_a_byte_order_mark_is_not_part_of_the_first_token(tmp_path: Path):
    (tmp_path / "vocab.txt").write_bytes(b"\xef\xbb\xbf" + (BASE + WORDS).encode())
    assert read_vocabulary(str(tmp_path)).ids["[PAD]"] == 0


def test_the_ends_of_lines_are_not_kept(tmp_path: Path):
    assert read_vocabulary(str(folder_of(tmp_path, SMALL["CRLF"]))).text == SMALL["plain"]


@pytest.mark.parametrize("space", ["\u3000", "\n", "\u2028", "\t", "\n\n"])
def test_tokens_of_a_json_that_no_text_matches_leave_the_others_alone(space: str, tmp_path: Path):
    theirs = AutoTokenizer.from_pretrained(str(folder_of(tmp_path / "source", BASE + WORDS, {})))
    content = json.loads(theirs.backend_tokenizer.to_str())
    words = [*content["model"]["vocab"], f"red{space}", f"a{space}b", "cats"]
    content["model"]["vocab"] = {token: number for number, token in enumerate(words)}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    ids = read_vocabulary(str(tmp_path)).ids
    assert (ids["red"], ids["a"], ids["cats"]) == (words.index("red"), words.index("a"), words.index("cats"))


def test_a_name_on_the_hub_keeps_its_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As if the folder were a model's name: through AutoTokenizer alone."""
    source = folder_of(tmp_path / "source", VOCABULARIES["repeated lines"], {"do_lower_case": False})
    theirs = AutoTokenizer.from_pretrained(str(source))
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda name: theirs)
    ours = BertTokenizer(read_vocabulary("somebody/bert"), 12)
    assert_same(ours, theirs)
    assert not ours.vocabulary.do_lower_case


def test_the_paper_takes_a_vocabulary_of_its_default_size(tmp_path: Path):
    config = default_config()
    config.tokenizer.path = str(folder_of(tmp_path, made_vocabulary()))
    tokenizer = given_tokenizer(config.tokenizer)
    assert tokenizer is not None and tokenizer.vocab_size == SIZE
