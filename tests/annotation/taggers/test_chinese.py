"""The rules of the Chinese tagger, one test a rule, over its kind."""

from itertools import product

import pytest

from ernie_vilg_jax.annotation.taggers.chinese import ChineseTagger, import_rjieba
from ernie_vilg_jax.annotation.taggers.chinese_segments import Segmenter

COLOURS = list("红橙黄绿青蓝紫黑白灰粉棕褐")


@pytest.fixture(scope="module")
def tagger() -> ChineseTagger:
    return ChineseTagger()


def key_words(tagger: ChineseTagger, caption: str) -> str:
    """`灰色/a 猫/n`"""
    return " ".join(f"{caption[start:end]}/{pos}" for start, end, pos in tagger.words(caption))


@pytest.mark.parametrize("attribute", [*COLOURS, "小", "旧", "破", "圆"])
def test_one_character_before_a_noun_is_an_attribute(tagger: ChineseTagger, attribute: str):
    for noun in ("裙子", "猫", "外套", "花", "围巾", "卡车", "书包"):
        if attribute + noun not in ("黄花", "青花"):  # words of their own
            assert key_words(tagger, f"一件{attribute}{noun}") == f"一/m 件/q {attribute}/a {noun}/n"


@pytest.mark.parametrize("verb", ["穿", "戴", "披", "系", "身穿"])
def test_what_somebody_wears_is_verb_colour_and_noun(tagger: ChineseTagger, verb: str):
    for colour, noun in product(COLOURS, ["裙子", "帽子", "外套", "西装", "安全帽", "鞋", "军装"]):
        assert key_words(tagger, f"{verb}{colour}{noun}的人") == f"{verb}/v {colour}/a {noun}/n 人/n"


@pytest.mark.parametrize("verb", ["拿", "提", "买", "举"])
def test_an_attribute_is_cut_off_the_verb_before_it(tagger: ChineseTagger, verb: str):
    for attribute, noun in product("红橙小长", ["猫", "伞", "车", "雨伞", "书包", "绸缎裙", "毛线"]):
        assert key_words(tagger, f"她{verb}{attribute}{noun}") == f"她/r {verb}/v {attribute}/a {noun}/n"


@pytest.mark.parametrize("season", ["冬", "夏", "春夏"])
@pytest.mark.parametrize("sex", "男女")
@pytest.mark.parametrize("goods", ["靴", "鞋", "帽"])
def test_man_and_woman_are_attributes_between_characters(tagger: ChineseTagger, goods: str, sex: str, season: str):
    assert key_words(tagger, f"加厚{goods}{sex}{season}") == f"加厚/a {goods}/n {sex}/a {season}/n"


@pytest.mark.parametrize("attribute", ["收腰", "加厚", "轻奢", "小众", "防滑"])
def test_man_and_woman_are_attributes_between_any_words(tagger: ChineseTagger, attribute: str):
    for goods, sex in product(["连衣裙", "雪地靴", "运动鞋", "披肩", "睡裤", "手链"], "男女"):
        assert key_words(tagger, f"{goods}{sex}{attribute}") == f"{goods}/n {sex}/a {attribute}/a"


@pytest.mark.parametrize("name", ["王女华", "孙男山", "陈小云", "刘小虎", "何小鸥", "王黑虎"])
def test_a_persons_name_is_not_cut(tagger: ChineseTagger, name: str):
    assert key_words(tagger, f"歌手{name}穿红裙") == f"歌手/n {name}/n 穿/v 红/a 裙/n"


@pytest.mark.parametrize(
    ("caption", "wanted"),
    [
        ("红外套", "红/a 外套/n"),
        ("长沙发", "长/a 沙发/n"),
        ("穿红军装", "穿/v 红/a 军装/n"),
        ("白领带", "白/a 领带/n"),
        ("蓝领带", "蓝/a 领带/n"),
    ],
)
def test_an_attribute_leaves_a_word_that_crosses_into_the_next(tagger: ChineseTagger, caption: str, wanted: str):
    assert key_words(tagger, caption) == wanted


@pytest.mark.parametrize(
    "noun", ["手机壳", "恐龙靴", "火车垫", "药材柜", "鳄鱼裤", "熊猫帽", "零食架", "收纳筐", "学习灯", "登山袜"]
)
def test_a_head_of_one_character_makes_one_noun(tagger: ChineseTagger, noun: str):
    assert key_words(tagger, f"{noun}防水") == f"{noun}/n 防水/a"


@pytest.mark.parametrize("word", ["防尘款", "女生款", "老人款", "糖果色", "咖喱色", "樱花色"])
def test_kinds_and_colours_are_named_after_things(tagger: ChineseTagger, word: str):
    assert key_words(tagger, f"{word}雨伞") == f"{word}/a 雨伞/n"


@pytest.mark.parametrize("style", ["温柔", "甜美", "极简", "复古"])
def test_a_style_is_an_attribute_with_wind(tagger: ChineseTagger, style: str):
    assert key_words(tagger, f"{style}风裙子") == f"{style}风/n 裙子/n"


@pytest.mark.parametrize(
    ("caption", "wanted"),
    [
        ("1998年3月12日，雪", "1998年/n 3月/n 12日/n 雪/n"),
        ("2021年冬天", "2021年/n 冬天/n"),
        ("5月1号的广场", "5月/n 1号/n 广场/n"),
    ],
)
def test_dates_are_nouns(tagger: ChineseTagger, caption: str, wanted: str):
    assert key_words(tagger, caption) == wanted


@pytest.mark.parametrize("text", ["Wi-Fi", "3.5-5.2cm", "foo_bar", "12:30", "2022-10-05", "iPhone15", "C++", "50%"])
def test_signs_are_cut_as_jieba_cuts_them(tagger: ChineseTagger, text: str):
    jieba = import_rjieba().Jieba()
    assert Segmenter(jieba).tokens(f"帽子{text}雨伞")[1:-1] == jieba.tag(text)
    assert Segmenter(jieba).tokens(f"，{text}，")[1:-1] == jieba.tag(text)


@pytest.mark.parametrize("unit", ["ml", "cm", "kg", "mm", "L", "g", "mAh", "ML"])
@pytest.mark.parametrize("number", ["500", "1.5"])
def test_a_number_with_a_latin_unit_is_numeral_and_measure(tagger: ChineseTagger, number: str, unit: str):
    assert key_words(tagger, f"水壶{number}{unit}") == f"水壶/n {number}/m {unit}/q"


@pytest.mark.parametrize("word", ["4K", "3D", "1080p"])
def test_a_quality_is_not_a_quantity(tagger: ChineseTagger, word: str):
    assert key_words(tagger, f"{word}显示器") == f"{word}/a 显示器/n"


@pytest.mark.parametrize("measure", ["双", "条", "支", "个", "只", "片"])
def test_packed_by_a_measure(tagger: ChineseTagger, measure: str):
    assert key_words(tagger, f"袜子5{measure}装") == f"袜子/n 5/m {measure}/q"


@pytest.mark.parametrize(
    "name",
    [
        "白金汉宫",
        "大西洋",
        "黑龙江",
        "白俄罗斯",
        "新南威尔士",
        "波罗的海",
        "巴尔的摩",
        "切尔西",
        "大柴旦镇",
        "大凌河",
        "枫丹白露",
        "五台山",
        "黄石公园",
        "新天鹅堡",
        "大堡礁",
        "黄果树瀑布",
    ],
)
def test_names_stay_whole(tagger: ChineseTagger, name: str):
    assert key_words(tagger, name) == f"{name}/n"


@pytest.mark.parametrize("caption", ["大|城市", "小|石桥", "红|珊瑚", "老|先生", "旧|城区", "黄|土地"])
def test_common_nouns_among_names_are_split(tagger: ChineseTagger, caption: str):
    attribute, noun = caption.split("|")
    assert key_words(tagger, attribute + noun) == f"{attribute}/a {noun}/n"


@pytest.mark.parametrize("word", ["折叠椅", "折叠床", "防水纸", "安全感", "广角镜"])
def test_words_of_the_dictionary_keep_their_attribute(tagger: ChineseTagger, word: str):
    assert key_words(tagger, word) == f"{word}/n"


@pytest.mark.parametrize("word", ["手提式", "便携式", "入耳式"])
def test_a_form_before_an_adverb_is_an_attribute(tagger: ChineseTagger, word: str):
    assert key_words(tagger, f"{word}自动") == f"{word}/a 自动/a"


@pytest.mark.parametrize(
    "word",
    [
        "加厚",
        "连帽",
        "防摔",
        "保暖",
        "显瘦",
        "超薄",
        "薄款",
        "大号",
        "免烫",
        "散装",
        "罐装",
        "大容量",
        "全包",
        "中筒",
        "百搭",
        "遮光",
        "隔热",
        "新潮",
    ],
)
def test_properties_of_goods_are_attributes(tagger: ChineseTagger, word: str):
    assert key_words(tagger, f"黑色{word}") == f"黑色/a {word}/a"


@pytest.mark.parametrize(
    "word", ["格子", "条纹", "商务", "户外", "抱枕", "飘窗", "猫窝", "四季", "截图", "左手", "首页", "釉下彩"]
)
def test_nouns_that_jieba_cuts_or_misnames(tagger: ChineseTagger, word: str):
    assert key_words(tagger, f"一个{word}") == f"一/m 个/q {word}/n"


@pytest.mark.parametrize("verb", ["会见", "高举", "列队", "面朝", "身着", "搜寻", "夺冠", "合照"])
def test_verbs_of_news(tagger: ChineseTagger, verb: str):
    assert key_words(tagger, f"他们{verb}") == f"他们/r {verb}/v"


@pytest.mark.parametrize("noun", ["歌", "框", "壳", "巾", "盆", "帘", "瓦", "袖"])
def test_nouns_of_one_character_stand_alone_after_an_attribute(tagger: ChineseTagger, noun: str):
    assert key_words(tagger, f"一个旧{noun}") == f"一/m 个/q 旧/a {noun}/n"
