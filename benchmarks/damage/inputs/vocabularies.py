"""Vocabularies in every form that is published; ids are compared with those of the library `tokenizers`."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.damage.inputs.kinds import Input, Trial, png, prepare, write

FAMILY = "vocabularies"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
TOKENS = (
    *SPECIAL,
    *(f"[unused{n}]" for n in range(1, 8)),
    "\u2028",
    "##\u2028",
    "\x85",
    "a",
    "cat",
    "##s",
    "Cat",
    "café",
    "cafe",
    "红",
    "色",
    "猫",
    "##色",
    "红色",
    "the",
    "tea",
    "##m",
    ",",
    "。",
    "!",
)
CAPTIONS = ("a cat", "Cats, the team!", "红色猫。", "Café cafe", "a\u2028cat [SEP] x", "unknown")
Files = dict[str, bytes | str]


def ids_of(tokens: Mapping[str, int], text: str, **options: Any) -> list[int]:
    """By BERT's tokenizer in the library `tokenizers`."""
    from tokenizers import BertWordPieceTokenizer

    usual = {"lowercase": True, "strip_accents": None, "handle_chinese_chars": True}
    tokenizer = BertWordPieceTokenizer(vocab=dict(tokens), **{**usual, **options})
    return tokenizer.encode(text, add_special_tokens=False).ids


def check_of(tokens: Mapping[str, int], options: Mapping[str, Any]) -> Callable[[Path], str]:
    def check(out: Path) -> str:
        from ernie_vilg_jax.data.tokenizers import load_tokenizer

        tokenizer = load_tokenizer(out / "data/tokenizer")
        for text in CAPTIONS:
            found, wanted = tokenizer.pieces(text)[0], ids_of(tokens, text, **options)
            if "[SEP]" not in text and found != wanted:
                return f"{text!a} is {found} instead of {wanted}"
            if {tokens[name] for name in SPECIAL if name != "[UNK]"} & set(found):
                return f"{text!a} has a special token"
        return "" if tokenizer.pad_id == tokens["[PAD]"] else "another padding"

    return check


def trial(folder: Path, out: Path, rng: Random, files: Files, size: int, path: str = "") -> Trial:
    images = {f"images/{n}.png": png(rng) for n in range(len(CAPTIONS))}
    write(folder, {**files, **images, **{f"images/{n}.txt": text for n, text in enumerate(CAPTIONS)}})
    given = ("--config.tokenizer.kind=bert", f"--config.tokenizer.path={folder / 'given' / path}")
    return Trial(prepare(out, f"--folder={folder / 'images'}", *given, f"--config.tokenizer.vocab_size={size}"))


def numbered(*tokens: str) -> dict[str, int]:
    return {token: number for number, token in enumerate(tokens) if token}


def known(
    name: str, files: Callable[[Random], Files], tokens: Mapping[str, int] | None = None, path: str = "", **options: Any
) -> Input:
    """A form that has to be read with the ids `tokens`; the files are in the folder `given`."""
    ids = numbered(*TOKENS) if tokens is None else tokens

    def make(folder: Path, out: Path, rng: Random) -> Trial:
        content = {f"given/{file}": data for file, data in files(rng).items()}
        made = trial(folder, out, rng, content, max(ids.values()) + 1, path)
        return Trial(made.line, check_of(ids, options))

    return Input(FAMILY, name, make)


def refused(name: str, files: Callable[[Random], Files], says: str, size: int = len(TOKENS), path: str = "") -> Input:
    def make(folder: Path, out: Path, rng: Random) -> Trial:
        content = {f"given/{file}": data for file, data in files(rng).items()}
        return Trial(trial(folder, out, rng, content, size, path).line, says=(says,))

    return Input(FAMILY, name, make)


def lines(*tokens: str, end: str = "\n") -> str:
    return "".join(f"{token}{end}" for token in tokens)


def as_json(ids: Mapping[str, Any], **changes: Any) -> str:
    model = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "vocab": dict(ids)}
    normalizer = {"type": "BertNormalizer", "lowercase": True, "strip_accents": None, "handle_chinese_chars": True}
    return json.dumps({"model": model, "normalizer": normalizer, "added_tokens": [], **changes})


TEXT = lines(*TOKENS)
IDS = numbered(*TOKENS)
HOLES = (*TOKENS[:14], "", "", *TOKENS[14:])
TWICE = (*TOKENS[:14], "猫", "a", *TOKENS[14:])
CONFIG = "tokenizer_config.json"


def option(**options: Any) -> Callable[[Random], Files]:
    return lambda rng: {"vocab.txt": TEXT, CONFIG: json.dumps({"tokenizer_class": "BertTokenizer", **options})}


def moved(rng: Random) -> str:
    """The vocabulary with two of its words exchanged."""
    tokens = list(TOKENS)
    first, second = rng.sample(range(20, len(tokens)), 2)
    tokens[first], tokens[second] = tokens[second], tokens[first]
    return lines(*tokens)


INPUTS = (
    known("vocab.txt", lambda rng: {"vocab.txt": TEXT}, path="vocab.txt"),
    known("folder with vocab.txt", lambda rng: {"vocab.txt": TEXT}),
    known("vocab.txt, CRLF", lambda rng: {"vocab.txt": lines(*TOKENS, end="\r\n")}),
    known("vocab.txt, byte order mark", lambda rng: {"vocab.txt": "\ufeff" + TEXT}),
    known("vocab.txt, no end of the last line", lambda rng: {"vocab.txt": TEXT.removesuffix("\n")}),
    known("vocab.txt, spaces after tokens", lambda rng: {"vocab.txt": lines(*TOKENS, end=" \n")}),
    known("vocab.txt, holes", lambda rng: {"vocab.txt": lines(*HOLES)}, numbered(*HOLES)),
    known("vocab.txt, lines twice", lambda rng: {"vocab.txt": lines(*TWICE)}, numbered(*TWICE)),
    known("vocab.txt of Paddle", lambda rng: {"vocab.txt": lines(*(f"{t}\t{n}" for t, n in IDS.items()))}),
    known(
        "vocab.txt of Paddle, in another order",
        lambda rng: {"vocab.txt": lines(*(f"{t}\t{n}" for t, n in rng.sample(list(IDS.items()), len(IDS))))},
    ),
    known(
        "vocab.txt of Paddle, holes",
        lambda rng: {"vocab.txt": lines(*(f"{t}\t{n}" for t, n in numbered(*HOLES).items()))},
        numbered(*HOLES),
    ),
    known("tokenizer.json", lambda rng: {"tokenizer.json": as_json(IDS)}),
    known("tokenizer.json, holes", lambda rng: {"tokenizer.json": as_json(numbered(*HOLES))}, numbered(*HOLES)),
    known(
        "tokenizer.json, in another order",
        lambda rng: {"tokenizer.json": as_json(dict(rng.sample(list(IDS.items()), len(IDS))))},
        path="tokenizer.json",
    ),
    known("both files", lambda rng: {"tokenizer.json": as_json(IDS), "vocab.txt": TEXT}),
    known("do_lower_case false", option(do_lower_case=False), lowercase=False),
    known("strip_accents true", option(do_lower_case=False, strip_accents=True), lowercase=False, strip_accents=True),
    known("strip_accents false", option(strip_accents=False), strip_accents=False),
    known("tokenize_chinese_chars false", option(tokenize_chinese_chars=False), handle_chinese_chars=False),
    known(
        "options in tokenizer.json",
        lambda rng: {
            "tokenizer.json": as_json(
                IDS,
                normalizer={
                    "type": "BertNormalizer",
                    "lowercase": False,
                    "strip_accents": False,
                    "handle_chinese_chars": False,
                },
            )
        },
        lowercase=False,
        strip_accents=False,
        handle_chinese_chars=False,
    ),
    known("a class of Paddle", option(tokenizer_class="ErnieTokenizer")),
    refused("both files, which differ", lambda rng: {"tokenizer.json": as_json(IDS), "vocab.txt": moved(rng)}, "given"),
    refused(
        "Paddle, an id twice",
        lambda rng: {"vocab.txt": lines(*(f"{t}\t{min(n, 30)}" for t, n in IDS.items()))},
        "vocab.txt",
    ),
    refused(
        "Paddle, a line without an id",
        lambda rng: {"vocab.txt": lines(*(f"{t}\t{n}" for t, n in IDS.items()), "x")},
        "vocab.txt",
    ),
    refused(
        "Paddle, an id of a billion",
        lambda rng: {"vocab.txt": lines(*(f"{t}\t{n}" for t, n in IDS.items()), "x\t999999999")},
        "vocab.txt",
    ),
    refused("no [UNK]", lambda rng: {"vocab.txt": lines(*TOKENS).replace("[UNK]", "unk")}, "[UNK]"),
    refused("another size than the config's", lambda rng: {"vocab.txt": TEXT}, "vocab_size", size=99),
    refused("of another class", option(tokenizer_class="GPT2Tokenizer"), "GPT2Tokenizer"),
    refused(
        "tokenizer.json of BPE",
        lambda rng: {"tokenizer.json": as_json(IDS, model={"type": "BPE", "vocab": IDS, "merges": []})},
        "BPE",
    ),
    refused(
        "tokenizer.json with another normalizer",
        lambda rng: {"tokenizer.json": as_json(IDS, normalizer={"type": "NFKC"})},
        "NFKC",
    ),
    refused(
        "tokenizer.json with added words",
        lambda rng: {"tokenizer.json": as_json(IDS, added_tokens=[{"content": "panda", "id": 99, "special": False}])},
        "panda",
    ),
    refused("tokenizer.json without a vocabulary", lambda rng: {"tokenizer.json": "{}"}, "tokenizer.json"),
    refused(
        "tokenizer.json cut off",
        lambda rng: {"tokenizer.json": as_json(IDS)[: rng.randrange(1, 200)]},
        "tokenizer.json",
    ),
    refused("tokenizer.json nested deeply", lambda rng: {"tokenizer.json": "[" * 100_000}, "tokenizer.json"),
    refused("tokenizer.json that is a list", lambda rng: {"tokenizer.json": "[1]"}, "tokenizer.json"),
    refused(
        "tokenizer.json with ids as text",
        lambda rng: {"tokenizer.json": as_json({t: str(n) for t, n in IDS.items()})},
        "tokenizer.json",
    ),
    refused(
        "tokenizer.json with added tokens of another form",
        lambda rng: {"tokenizer.json": as_json(IDS, added_tokens=[3])},
        "tokenizer.json",
    ),
    refused("an option that is text", option(do_lower_case="yes"), "do_lower_case"),
    refused("UTF-16", lambda rng: {"vocab.txt": TEXT.encode("utf-16")}, "vocab.txt"),
    refused("empty", lambda rng: {"vocab.txt": ""}, "vocab"),
    refused("a SentencePiece model", lambda rng: {"vocab.txt": b"\n\x0e\n\x05<unk>\x15\xff\xfe"}, "vocab"),
    refused("nowhere", lambda rng: {"notes.txt": "x"}, "given", path="vocab.txt"),
)
