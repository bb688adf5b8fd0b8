"""A generated vocabulary with the structure of bert-base-chinese."""

import itertools

SIZE = 21_128
SEPARATORS = {343: "\u2028", 13502: "##\u2028"}
"""Ids of tokens at which Python's `splitlines` would end a line."""


def made_vocabulary() -> str:
    """A vocab.txt: [PAD], [unused1-99], the special tokens from 100 on, signs, Chinese characters, words, ##pieces."""
    special = ["[PAD]", *(f"[unused{n}]" for n in range(1, 100)), "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<S>", "<T>"]
    signs = [chr(code) for code in (*range(33, 65), *range(91, 127), *range(0xA1, 0xAC), *range(0x3001, 0x3010))]
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    han = [chr(code) for code in range(0x4E00, 0x4E00 + 7322)]
    words = ("".join(pair) for pair in itertools.product(letters, repeat=3))
    whole = ["red", "circle", "blue", "square", "yellow", "triangle", "star", "green"]
    tokens = [*special, *signs]
    tokens += [token for token in (*han, *whole, *words) if token not in set(signs)][: 13_300 - len(tokens)]
    ends = ("".join(pair) for pair in itertools.product(letters, repeat=2))
    tokens += [f"##{token}" for token in (*letters, *han, *ends)]
    for number, token in sorted(SEPARATORS.items()):
        tokens.insert(number, token)
    tokens = tokens[:SIZE]
    assert len(set(tokens)) == SIZE and all(tokens[number] == token for number, token in SEPARATORS.items())
    return "\n".join(tokens) + "\n"
