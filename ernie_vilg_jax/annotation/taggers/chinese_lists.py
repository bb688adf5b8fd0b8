"""Word lists of the Chinese tagger. Long ones are files, described in their first line: assets/lexicons/zh."""

from ernie_vilg_jax.tables import rows, words

# ---- Attributes -----------------------------------------------------------------------------------------------------
_SHADED = frozenset(
    f"{shade}{colour}{end}"
    for colour, shades in rows("lexicons/zh/shades.tsv")
    for shade in shades.split()
    for end in ("", "色")
)
ADJECTIVES = (_SHADED - {"全白"}) | words("lexicons/zh/adjectives.txt") | words("lexicons/zh/goods.txt")
NOT_COLOURS = words("lexicons/zh/not_colours.txt")
ADJECTIVE_CHARACTERS = words("lexicons/zh/adjective_characters.txt")
ADVERBIAL = words("lexicons/zh/adverbial.txt")
# Before an adjective in one word of jieba's: 很漂亮.
DEGREES = ("非常", "十分", "特别", "很", "最", "太", "更")

# ---- Nouns ----------------------------------------------------------------------------------------------------------
REDUPLICATED_NOUNS = words("lexicons/zh/reduplicated_nouns.txt")
SPLIT_OFF = words("lexicons/zh/split_off.txt")
FREE_NOUNS = words("lexicons/zh/free_nouns.txt")
KEEP = words("lexicons/zh/keep.txt") | words("lexicons/zh/goods_nouns.txt") | words("lexicons/zh/names.txt")
COMPOUND_HEADS = words("lexicons/zh/compound_heads.txt")
PURPOSES = words("lexicons/zh/purposes.txt")
# Words of jieba's dictionary that cross a word boundary: never used.
BREAK_UP = ("猫和老鼠", "桃花开", "刚出生", "风吹", "风吹落", "五颗星")

# ---- Closed classes -------------------------------------------------------------------------------------------------
NUMERAL_CHARACTERS = "零〇一二三四五六七八九十百千万亿两半几数0123456789０１２３４５６７８９"
NUMERALS = words("lexicons/zh/numerals.txt")
MEASURES = words("lexicons/zh/measures.txt")
# After digits, in one word of jieba's: 500ml.
LATIN_UNITS = words("lexicons/zh/latin_units.txt")
WEAK_MEASURES = words("lexicons/zh/weak_measures.txt")
PRONOUNS = words("lexicons/zh/pronouns.txt")
DEMONSTRATIVES = frozenset("这那每某此哪各")
LOCALISERS = words("lexicons/zh/localisers.txt")
# Final characters that are localisers when a noun remains before them: 窗台上 -> 窗台 上.
LOCALISER_ENDINGS = frozenset("上下里中内外前后旁")
PLACE_CHARACTERS = words("lexicons/zh/place_characters.txt")
SURNAMES = words("lexicons/zh/surnames.txt")
# Final characters of names: 大西洋, 白金汉宫.
PLACE_ENDINGS = frozenset("洋海江河湖岛山岭峰峡湾港洲州省市县区镇乡村国宫殿寺庙塔陵园城")
WHOLE_PLACES = words("lexicons/zh/whole_places.txt")
FUNCTION_WORDS = words("lexicons/zh/function_words.txt")

# ---- Verbs ----------------------------------------------------------------------------------------------------------
ASPECTS = frozenset("着了过")
# Characters after a verb that are not key words: 趴在, 驶过, 救出.
COMPLEMENTS = frozenset("在着了过起出进去上下满成到向往入回来开住掉完倒给于至为见好透")
SINGLE_VERBS = words("lexicons/zh/single_verbs.txt")
NOUN_OR_VERB = words("lexicons/zh/noun_or_verb.txt")
VERBS = words("lexicons/zh/verbs.txt") | words("lexicons/zh/news_verbs.txt")
NOUNS_TOO = words("lexicons/zh/nouns_too.txt")
ARTS = words("lexicons/zh/arts.txt")
WEARING = frozenset("穿戴披系")
OBJECTS = words("lexicons/zh/objects.txt")
NEVER_NOUNS = words("lexicons/zh/never_nouns.txt")
