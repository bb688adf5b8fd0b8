import builtins
import pickle

import pytest

from ernie_vilg_jax.annotation.taggers import TAGGERS, Tagger, make_tagger
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.knowledge.words import PARTS_OF_SPEECH


@pytest.fixture(scope="module")
def taggers() -> dict[str, Tagger]:
    return {name: make_tagger(name) for name in TAGGERS}


@pytest.fixture(params=sorted(TAGGERS))
def tagger(request: pytest.FixtureRequest, taggers: dict[str, Tagger]) -> Tagger:
    return taggers[request.param]


@pytest.fixture
def both(taggers: dict[str, Tagger]) -> Tagger:
    return taggers["both"]


def key_words(tagger: Tagger, caption: str) -> str:
    """`灰色/a 猫/n`"""
    return " ".join(f"{caption[start:end]}/{pos}" for start, end, pos in tagger.words(caption))


@pytest.mark.parametrize(
    ("caption", "wanted"),
    [
        ("灰色的猫和棕色的狗", "灰色/a 猫/n 棕色/a 狗/n"),
        ("红帽子", "红/a 帽子/n"),
        ("一只白猫趴在窗台上", "一/m 只/q 白/a 猫/n 趴/v 窗台/n"),
        ("老虎、大象和白菜", "老虎/n 大象/n 白菜/n"),
        ("小提琴旁的红绿灯", "小提琴/n 红绿灯/n"),
        ("圆形的桌子，一个圆形", "圆形/a 桌子/n 一/m 个/q 圆形/n"),
        ("孩子们画画，墙上有一幅画", "孩子们/n 画画/v 墙/n 一/m 幅/q 画/n"),
        ("她开心地笑", "她/r 笑/v"),
    ],
)
def test_chinese(taggers: dict[str, Tagger], caption: str, wanted: str):
    assert key_words(taggers["zh"], caption) == wanted


@pytest.mark.parametrize(
    ("caption", "wanted"),
    [
        ("a gray cat and a brown dog", "gray/a cat/n brown/a dog/n"),
        ("A WOODEN TABLE", "WOODEN/a TABLE/n"),
        ("a man holding a smiling cat", "man/n holding/v smiling/a cat/n"),
        ("a fishing boat, a man fishing", "fishing/n boat/n man/n fishing/v"),
        ("two cups of tea next to a blue cup", "two/m cups/q tea/n blue/a cup/n"),
        ("a parked car, cars parked outside", "parked/a car/n cars/n parked/v"),
        ("the traffic lights; she lights a candle", "traffic/n lights/n she/r lights/v candle/n"),
        ("orange juice and an orange", "orange/a juice/n orange/n"),
        ("the cat's red bow; it's raining", "cat/n red/a bow/n it/r raining/v"),
    ],
)
def test_english(taggers: dict[str, Tagger], caption: str, wanted: str):
    assert key_words(taggers["en"], caption) == wanted


@pytest.mark.parametrize(
    ("caption", "wanted"),
    [
        ("红帽子 a red hat", "红/a 帽子/n red/a hat/n"),
        ("一件白色T恤，3D渲染", "一/m 件/q 白色/a T恤/n 3D/a 渲染/n"),
        ("cyberpunk city，霓虹灯，a girl walking in the rain", "cyberpunk/n city/n 霓虹灯/n girl/n walking/v rain/n"),
        ("一只可爱的puppy在草地上", "一/m 只/q 可爱/a puppy/n 草地/n"),
        ("a panda", "panda/n"),
        ("熊猫", "熊猫/n"),
    ],
)
def test_a_caption_may_mix_languages(both: Tagger, caption: str, wanted: str):
    assert key_words(both, caption) == wanted


ODD = [
    "",
    " ",
    "\u3000\t\r\n",
    "，。！？（）《》",
    "🐱👨‍👩‍👧 a cat 一只猫🐶",
    "\ud800 a \udfff猫\ud83d 红帽子",
    "一 只 猫\n\n a  red\that ",
    "１２３只ＣＡＴ　ｒｅｄ",
    "'s 's ' '' - -- /// a-- --b can't 'tis rock'n'roll O’Neill’s",
    "的的的的了着过",
    "\x00\x01\u200b\u202e\ufeffcat猫",
    "é́ naïve café Ünïcode кошка ネコ 고양이 ﷽",
    "红" * 10_000,
    "a red cat " * 1_000,
    "x" * 10_000,
    "一只红色的猫cat" * 1_000,
    "-" * 10_000,
    "a'" * 5_000,
    "𠮷𠮷红帽子𠮷",
    "入",
    "回",
]


@pytest.mark.parametrize("caption", ODD, ids=range(len(ODD)))
def test_any_string_is_a_caption(tagger: Tagger, caption: str):
    words = tagger.words(caption)
    place = 0
    for start, end, pos in words:
        assert place <= start < end <= len(caption)
        assert pos in PARTS_OF_SPEECH
        assert not any(character.isspace() for character in caption[start:end])
        place = end
    assert words == tagger.words(caption)


def test_spans_point_into_the_caption_as_given(both: Tagger):
    caption = "  \ud800一只　红帽子🐱,\n Two  Red HATS！"
    assert key_words(both, caption) == "一/m 只/q 红/a 帽子/n Two/m Red/a HATS/n"


def test_a_tagger_travels_to_worker_processes(tagger: Tagger):
    caption = "红帽子 a red hat"
    before = tagger.words(caption)
    assert pickle.loads(pickle.dumps(tagger)).words(caption) == before


def test_earlier_captions_make_no_difference():
    captions = ["一只红色的猫", "红帽子 a red hat", "two dogs playing", "playing cards", "画", "画画"]
    one, other = make_tagger("both"), make_tagger("both")
    assert [one.words(c) for c in captions] == [other.words(c) for c in reversed(captions)][::-1]


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UserError, match=f"'fr'.*{', '.join(TAGGERS)}"):
        make_tagger("fr")


@pytest.mark.parametrize(("name", "package"), [("zh", "rjieba"), ("en", "textblob")])
def test_a_missing_package_is_named_with_the_remedy(name: str, package: str, monkeypatch: pytest.MonkeyPatch):
    import_before = builtins.__import__

    def without(module: str, *args, **kwargs):
        if module.split(".")[0] == package:
            raise ImportError(module)
        return import_before(module, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=rf"needs the package {package}: pip install '\.\[annotate\]', in a clone"):
        make_tagger(name)
