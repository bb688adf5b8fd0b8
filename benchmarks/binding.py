r"""How often the binding checker is right: on renders with known content, and on statements that they do not show.

    python -m benchmarks.binding --output=binding.json                # some minutes on one core
    python -m benchmarks.binding --output=binding.json --count=200    # quicker
    python -m benchmarks.binding --output=soft.json --through=blur    # or --through=autoencoder: the demo's softness

Per kind of fact (object, colour, relation, count) and look (drawn shapes, recoloured silhouettes, full-colour art):
  right     true facts that the checker calls true
  shuffled  facts of other scenes that it calls true of this one
  near      near misses that it calls true: colours swapped, relation inverted, another number, another thing
Each with a 95% interval (Wilson). Run it again after an interruption: finished parts are kept.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags, logging

from ernie_vilg_jax.data.files import file_sha256
from ernie_vilg_jax.evaluation.binding.drawn import WEIGHTS, DrawnChecker
from ernie_vilg_jax.evaluation.binding.facts import KINDS, Fact
from ernie_vilg_jax.evaluation.binding.renders import LOOKS, Render, counted, near_miss, scenes, surely_false
from ernie_vilg_jax.evaluation.binding.sprites import STYLES
from ernie_vilg_jax.evaluation.study.statistics import wilson

MEASURES = ("right", "shuffled", "near")
_OUTPUT = flags.DEFINE_string("output", "binding.json", "Results, kept from run to run.")
_WEIGHTS = flags.DEFINE_string("weights", str(WEIGHTS), "The checker.")
_COUNT = flags.DEFINE_integer("count", 2000, "True facts of each kind, spread over the looks.", lower_bound=3)
_SEED = flags.DEFINE_integer("seed", 20_000, "Seed of the renders.")
_LOOKS = flags.DEFINE_list("looks", list(LOOKS), "Some of shapes, silhouettes, art; the last two need the registry.")
_STYLES = flags.DEFINE_list("styles", list(STYLES), "Styles of the full-colour art.")
_THROUGH = flags.DEFINE_enum("through", "", ["", "blur", "autoencoder"], "What the images pass first.")


def main(argv: list[str]) -> None:
    del argv
    checker = DrawnChecker(_WEIGHTS.value)
    output = Path(_OUTPUT.value)
    settings: dict[str, Any] = {
        "weights": file_sha256(Path(_WEIGHTS.value)),
        **{"count": _COUNT.value, "seed": _SEED.value, "through": _THROUGH.value, "styles": _STYLES.value},
    }
    results: dict[str, Any] = {"settings": settings, "parts": {}}
    if output.exists():
        results = json.loads(output.read_text())
        if results["settings"] != settings:
            raise app.UsageError(f"{output} has results of other settings: name another --output")
    for look in _LOOKS.value:
        for part, make in (("scenes", _scenes), ("counted", _counted)):
            if f"{look}/{part}" in results["parts"]:
                continue
            renders = make(look, checker)
            results["parts"][f"{look}/{part}"] = measure(checker, renders, _kinds(look, part), _per_look(look, part))
            output.write_text(json.dumps(results, indent=1) + "\n")
            logging.info("%s, %s: done", look, part)
    print(table(results["parts"]))


def _kinds(look: str, part: str) -> tuple[str, ...]:
    if part == "counted":
        return ("count",)
    return ("object", "relation") if look == "art" else ("object", "colour", "relation")


def _per_look(look: str, part: str) -> dict[str, int]:
    """Facts of each kind: `--count` in all, spread over the looks that have the kind."""
    shares = {kind: sum(kind in _kinds(other, part) for other in _LOOKS.value) for kind in _kinds(look, part)}
    return {kind: -(-_COUNT.value // share) for kind, share in shares.items()}


def _scenes(look: str, checker: DrawnChecker) -> list[Render]:
    need = max(_per_look(look, "scenes").values())
    several = scenes(look, checker.nouns, _STYLES.value, _SEED.value + 1, need, least=2)  # with relations
    return [*scenes(look, checker.nouns, _STYLES.value, _SEED.value, need // 2), *several]


def _counted(look: str, checker: DrawnChecker) -> list[Render]:
    need = _per_look(look, "counted")["count"]
    return [counted(look, checker.nouns, _STYLES.value, _SEED.value, index) for index in range(need)]


def measure(
    checker: DrawnChecker, renders: Sequence[Render], kinds: Sequence[str], need: dict[str, int]
) -> dict[str, dict[str, list[int]]]:
    """Kind of fact -> {"right", "shuffled", "near"} -> [how often, of how many]; at most `need` facts of a kind."""
    rng = np.random.default_rng(_SEED.value)
    asked: list[list[tuple[str, str, Fact]]] = []
    taken = dict.fromkeys(kinds, 0)
    for index, render in enumerate(renders):
        asked.append([])
        other = renders[(index + len(renders) // 2) % len(renders)].facts
        for kind in kinds:
            true = [fact for fact in render.facts if fact.kind == kind]
            if not true or taken[kind] >= need[kind]:
                continue
            fact = true[rng.integers(len(true))]  # one a render, so that they are independent
            taken[kind] += 1
            asked[-1] += [(kind, "right", fact), (kind, "near", near_miss(fact, render.facts, checker.nouns, rng))]
            asked[-1] += [(kind, "shuffled", f) for f in other if f.kind == kind and surely_false(f, render.facts)][:1]
    through = _through()
    images = [image for start in range(0, len(renders), 64) for image in through(renders[start : start + 64])]
    judged = checker.check(images, [[fact for *_, fact in facts] for facts in asked])
    table = {kind: {name: [0, 0] for name in MEASURES} for kind in kinds}
    for facts, judgement in zip(asked, judged, strict=True):
        for (kind, name, _), verdict in zip(facts, judgement.verdicts, strict=True):
            table[kind][name][0] += verdict.true
            table[kind][name][1] += 1
    return table


def _through() -> Callable[[Sequence[Render]], list[np.ndarray]]:
    """What the images pass before they are judged."""
    if _THROUGH.value == "autoencoder":
        from ernie_vilg_jax.evaluation.binding.round_trip import quiet_load, round_trip

        passed = round_trip(quiet_load())
        return lambda renders: list(passed(np.stack([render.image for render in renders])))
    if _THROUGH.value == "blur":
        from PIL import Image, ImageFilter

        soft = ImageFilter.GaussianBlur(1.2)
        return lambda renders: [np.asarray(Image.fromarray(render.image).filter(soft)) for render in renders]
    return lambda renders: [render.image for render in renders]


def table(parts: dict[str, dict[str, dict[str, list[int]]]]) -> str:
    """Lines of percentages; "all" sums the looks."""
    lines = [f"{'fact':9} {'look':12} {'right':>28} {'shuffled':>28} {'near miss':>28}"]
    for kind in KINDS:
        rows = {part.split("/")[0]: found[kind] for part, found in parts.items() if kind in found}
        if not rows:
            continue
        total = {name: np.sum([row[name] for row in rows.values()], axis=0).tolist() for name in MEASURES}
        for look, row in {**rows, "all": total}.items():
            cells = [_cell(*row[name]) for name in MEASURES]
            lines.append(f"{kind:9} {look:12} {' '.join(cells)}")
    return "\n".join(lines)


def _cell(right: int, count: int) -> str:
    if not count:
        return f"{'-':>28}"
    share = wilson(right / count, count, 1.96)
    return f"{f'{100 * share.value:.1f} ({100 * share.low:.1f} to {100 * share.high:.1f}) of {count}':>28}"


if __name__ == "__main__":
    app.run(main)
