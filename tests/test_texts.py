import pytest

from ernie_vilg_jax import texts
from ernie_vilg_jax.errors import UserError

SEPARATORS = ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"]
"""The separators of `str.splitlines` other than line ends."""


@pytest.mark.parametrize("separator", SEPARATORS, ids=ascii)
def test_lines_end_at_the_ends_of_lines_alone(separator: str):
    text = texts.decode(f"a{separator}b\nc\r\nd\re\n".encode(), "file")
    assert texts.lines(text) == [f"a{separator}b", "c", "d", "e"]


def test_byte_order_marks_are_not_part_of_a_line():
    data = "\ufeffa\n".encode() + "\ufeffb\nc\ufeffd".encode()
    assert texts.lines(texts.decode(data, "file")) == ["a", "b", "c\ufeffd"]
    assert texts.clean(" \ufeff a \ufeff") == "a"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a\nb\0", "file, line 2: there is a NUL"),
        ("猫和狗".encode("gbk"), r"file is not UTF-8 text \(invalid"),
        ("a cat".encode("utf-16"), "file is not UTF-8 text"),
        ("a cat".encode("utf-16-le"), "file, line 1: there is a NUL"),
        (b"a \xed\xa0\xbd", "file is not UTF-8 text"),
    ],
)
def test_invalid_utf8_is_named(data: bytes, message: str):
    with pytest.raises(UserError, match=message):
        texts.decode(data, "file")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a cat 🐱", ""),
        ("a\ud83d", r"half of a character (U+D83D) at character 2"),
        ("\udcff", r"half of a character (U+DCFF) at character 1"),
        ("ab\0", "a NUL at character 3"),
    ],
)
def test_faults_of_strings(text: str, reason: str):
    assert texts.fault(text) == reason


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ('{"a": ' * 100_000 + "1" + "}" * 100_000, "nested too deeply"),
        ('{"en": "a", "zh": "b", "en": "c"}', "the key 'en' twice"),
        ('[{"x": {"y": 1, "y": 1}}]', "the key 'y' twice"),
        (r'{"en": "\ud83d"}', r"'\\ud83d' holds half of a character"),
        (r'{"en": ["a", {"x": "\u0000"}]}', "holds a NUL"),
        (r'{"\udc00": 1}', "holds half of a character"),
        ("9" * 5000, "Exceeds the limit"),
        ("{", "Expecting"),
        ("", "Expecting"),
    ],
    ids=lambda text: text[:20],
)
def test_json_that_cannot_be_used_is_a_value_error(text: str, message: str):
    with pytest.raises(ValueError, match=message):
        texts.parse_json(text)


def test_json_with_line_separators_and_pairs_of_surrogates():
    assert texts.parse_json('\ufeff{"en": "a\u2028b", "zh": "\\ud83d\\udc31"}') == {"en": "a\u2028b", "zh": "🐱"}
