"""Word lists of the English tagger, lower case. Long ones are files, described in their first line:
assets/lexicons/en."""

from ernie_vilg_jax.tables import rows, words

# ---- Attributes and nouns -------------------------------------------------------------------------------------------
ADJECTIVES = words("lexicons/en/adjectives.txt")
NOUN_OR_ADJECTIVE = words("lexicons/en/noun_or_adjective.txt")
ALWAYS_ADJECTIVES = words("lexicons/en/always_adjectives.txt")
ATTRIBUTE_STARTS = words("lexicons/en/attribute_starts.txt")
ATTRIBUTE_ENDS = words("lexicons/en/attribute_ends.txt")
NOUNS = words("lexicons/en/nouns.txt")
IRREGULAR_PLURALS = words("lexicons/en/irregular_plurals.txt")
PICTURE_MEDIA = words("lexicons/en/picture_media.txt")
GROUND_HEADS = words("lexicons/en/ground_heads.txt")
MEASURES = words("lexicons/en/measures.txt")
PLURAL_MEASURES = frozenset(
    {"loaves", "boxes", "bunches", "batches", "glasses", "dishes", "pinches", "patches", "pouches"}
    | {f"{word}s" for word in MEASURES}
)

# ---- Closed classes -------------------------------------------------------------------------------------------------
DETERMINERS = words("lexicons/en/determiners.txt")
POSSESSIVES = words("lexicons/en/possessives.txt")
PRONOUNS = words("lexicons/en/pronouns.txt")
OBJECT_PRONOUNS = words("lexicons/en/object_pronouns.txt")
PLURAL_SUBJECTS = words("lexicons/en/plural_subjects.txt")
DEMONSTRATIVES = frozenset(("this", "that", "these", "those"))
NUMERALS = words("lexicons/en/numerals.txt")
MODALS = words("lexicons/en/modals.txt")
AUXILIARIES = words("lexicons/en/auxiliaries.txt")
PREPOSITIONS = words("lexicons/en/prepositions.txt")
BARE = words("lexicons/en/bare.txt")
BARE_OR_ADJECTIVE = words("lexicons/en/bare_or_adjective.txt")

# ---- Verbs and words in -ing ----------------------------------------------------------------------------------------
VERBS = words("lexicons/en/verbs.txt")
RARELY_VERBS = words("lexicons/en/rarely_verbs.txt")
NEVER_VERBS = words("lexicons/en/never_verbs.txt")
NOUNS_IN_ING = words("lexicons/en/nouns_in_ing.txt")
PURPOSE_IN_ING = {word: frozenset(heads.split()) for word, heads in rows("lexicons/en/purpose_in_ing.tsv")}
TRANSITIVE_IN_ING = words("lexicons/en/transitive_in_ing.txt")
ACTIVITIES = words("lexicons/en/activities.txt")
