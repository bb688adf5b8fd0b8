"""How well and how fast the caption parser finds key words.

    python -m benchmarks.caption_parser                 # both languages, all parts
    python -m benchmarks.caption_parser --parts=dev     # while changing rules: the test part is not for tuning

Prints, per language and part of the labelled captions (tests/annotation/taggers/gold), precision, recall and F1 by part
of speech, over characters (with a 95% bootstrap interval over captions) and over exact words
(`tests/annotation/taggers/gold_score.py` defines both), the number of gold words, and the share found exactly. For each
tagger it prints captions per second of processor time in one process: the median of several rounds over the dev
captions, each joined with a number so that no two are equal.
"""

from __future__ import annotations

import json
import platform
import statistics
import time

from absl import app, flags

from ernie_vilg_jax.annotation.taggers import Tagger, make_tagger
from ernie_vilg_jax.knowledge.words import PARTS_OF_SPEECH, Word
from tests.annotation.taggers.gold_score import intervals, parts_of, read_gold, score

_LANGUAGES = flags.DEFINE_list("languages", ["zh", "en"], "Languages to score.")
_PARTS = flags.DEFINE_list("parts", [], "Parts of the labelled captions to score, of files LANGUAGE_PART.txt; or all.")
_SECONDS = flags.DEFINE_float("seconds", 2.0, "Time of each round of the throughput; 0 leaves it out.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds of the throughput.")
_JSON = flags.DEFINE_string("json", "", "Also write the figures to this file.")


def print_scores(name: str, tagger: Tagger, gold: list[tuple[str, list[Word]]]) -> dict[str, float]:
    """Prints one table; returns its figures by name."""
    report, bounds = score(tagger, gold), intervals(tagger, gold)
    print(f"\n{name}: {len(gold)} captions, {report.exact:.3f} of the words found exactly")
    print("     words  characters: P     R     F1     95%             exact words: P     R     F1")
    figures = {"exact": report.exact}
    for pos in PARTS_OF_SPEECH:
        rows = [report.characters[pos], report.spans[pos]]
        words = rows[1].tp + rows[1].fn
        if not words:
            continue
        cells = ["  ".join(f"{value:.3f}" for value in (row.precision, row.recall, row.f1)) for row in rows]
        low, high = bounds[pos]
        print(f"  {pos}  {words:>5}          {cells[0]}  [{low:.3f}, {high:.3f}]          {cells[1]}")
        figures |= {f"{pos}_characters": rows[0].f1, f"{pos}_words": rows[1].f1}
    return figures


def throughput(tagger: Tagger, captions: list[str]) -> float:
    """Captions per second of processor time."""
    rates = []
    for _ in range(_ROUNDS.value):
        done, start = 0, time.process_time()
        while time.process_time() - start < _SECONDS.value:
            for caption in captions:
                tagger.words(f"{caption} {done}")
                done += 1
        rates.append(done / (time.process_time() - start))
    return statistics.median(rates)


def main(argv: list[str]) -> None:
    del argv
    results: dict[str, dict[str, float]] = {}
    for language in _LANGUAGES.value:
        tagger = make_tagger(language)
        for part in _PARTS.value or parts_of(language):
            results[f"{language} {part}"] = print_scores(f"{language} {part}", tagger, read_gold(language, part))
    if _SECONDS.value:
        print(f"\n{platform.machine()}, Python {platform.python_version()}, one process")
        captions = {language: [caption for caption, _ in read_gold(language, "dev")] for language in ("zh", "en")}
        captions["both"] = captions["zh"] + captions["en"]
        for name, texts in captions.items():
            rate = throughput(make_tagger(name), texts)
            results[f"{name} throughput"] = {"captions_per_second": rate}
            print(f"  {name:<5} {rate:>8.0f} captions/s")
    if _JSON.value:
        with open(_JSON.value, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    app.run(main)
