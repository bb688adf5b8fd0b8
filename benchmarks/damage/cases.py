"""Which damage goes with which files and commands, and the numbered cases that result."""

from collections.abc import Iterator
from itertools import count
from random import Random

from benchmarks.damage.checkpoints import BANK, CHECKPOINTS, STEPS
from benchmarks.damage.documents import DOCUMENTS
from benchmarks.damage.files import BYTES, FOLDERS, WHOLE
from benchmarks.damage.kinds import Case, Part, Use
from benchmarks.damage.prepared import DATA, MANIFEST, TOKENIZER
from benchmarks.damage.uses import STOOD, Annotate, Export, Inspect, Prepare, Read, Sample, Show, Train

ANY = (*BYTES, *WHOLE, *FOLDERS)
RUN_EXPERTS, RUN_BASE, RUN_AUTOENCODER, EXPORTED = "run/experts", "run/base", "run/autoencoder", "exported"

RESUME = Train("experts", True, ("data", RUN_EXPERTS))
START_EXPERTS = Train("experts", False, ("data", RUN_BASE))
RESUME_BASE = Train("base", True, ("data", RUN_BASE))
START_BASE = Train("base", False, ("data", RUN_AUTOENCODER))
RESUME_AUTOENCODER = Train("autoencoder", True, ("data", RUN_AUTOENCODER))
OF_EXPERTS: tuple[Use, ...] = (
    *(RESUME, Sample("run", (RUN_EXPERTS,)), Export("run", (RUN_EXPERTS,)), Sample("run", (RUN_EXPERTS,))),
    Show("run", (RUN_EXPERTS,)),
)
OF_EXPORTED: tuple[Use, ...] = (
    *(Sample(EXPORTED, (EXPORTED,)), Sample(EXPORTED, (EXPORTED,)), Export(EXPORTED, (EXPORTED,))),
    Show(EXPORTED, (EXPORTED,)),
)
OF_DATA: tuple[Use, ...] = (
    *(Read("data"), Annotate(), Read("data"), Prepare(), Read("data"), Inspect("data"), RESUME_AUTOENCODER),
)
OF_ANNOTATED: tuple[Use, ...] = (Read("annotated", ("knowledge",)), Annotate(again=True))

PARTS = (
    Part(
        "checkpoint", f"{RUN_EXPERTS}/checkpoints/{STOOD}", (*ANY, *DOCUMENTS, *BANK, *CHECKPOINTS, *STEPS), OF_EXPERTS
    ),
    Part("checkpoint", EXPORTED, (*ANY, *DOCUMENTS, *BANK, *CHECKPOINTS), OF_EXPORTED),
    Part(
        "checkpoint",
        f"{RUN_BASE}/checkpoints/{STOOD}",
        (*BYTES, *WHOLE, *DOCUMENTS, *CHECKPOINTS, *STEPS),
        (START_EXPERTS, Sample(RUN_BASE, (RUN_BASE,)), RESUME_BASE),
    ),
    Part(
        "checkpoint",
        f"{RUN_AUTOENCODER}/checkpoints/{STOOD}",
        (*BYTES, *CHECKPOINTS, *STEPS),
        (START_BASE, RESUME_AUTOENCODER),
    ),
    Part("data", "data", (*ANY, *DATA), OF_DATA),
    Part("data", "annotated", (*BYTES, *DATA, *MANIFEST), OF_ANNOTATED),
    Part("manifest", "data/manifest.json", (*BYTES, *WHOLE, *DOCUMENTS, *MANIFEST), OF_DATA),
    Part("tokenizer", "data/tokenizer", (*BYTES, *WHOLE, *DOCUMENTS, *TOKENIZER), (*OF_DATA, RESUME)),
    Part(
        "tokenizer",
        f"{RUN_EXPERTS}/checkpoints/{STOOD}/tokenizer",
        (*BYTES, *WHOLE),
        (Sample("run", (RUN_EXPERTS,)), RESUME, Export("run", (RUN_EXPERTS,))),
    ),
)
FAMILIES = tuple(dict.fromkeys(part.family for part in PARTS))


def cases(seed: int) -> Iterator[Case]:
    """Endless: every damage of every part once, in an order drawn from the seed; then again with other commands."""
    pairs = [(part, damage) for part in PARTS for damage in part.damages]
    numbers = count()
    for turn in count():
        order = list(range(len(pairs)))
        Random(f"{seed}/{turn}").shuffle(order)
        for place in order:
            part, damage = pairs[place]
            yield Case(next(numbers), part, damage, part.uses[(turn + place) % len(part.uses)])
