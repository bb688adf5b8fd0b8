"""The cells of the study: what is trained, and how it differs from the baseline."""

import dataclasses

SEEDS = (0, 1, 2, 3, 4)
EXPERTS_SAMPLES = 400 * 64
"""Samples of the phase `experts`, the same in every cell that has one."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One model of each seed.

    Attributes:
      name: of the folder and of the row in the report.
      question: which table it belongs to.
      variants: of configs/small_ablation.py.
      settings: config fields that differ, of all its phases.
      experts: 0 ends after `base`; n trains n experts from the base of "none".
      exploratory: of the first seed alone.
    """

    name: str
    question: str
    variants: tuple[str, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    experts: int = 0
    exploratory: bool = False

    @property
    def folder(self) -> str:
        return self.name.replace(",", "").replace(" ", "_")

    @property
    def batch_size(self) -> int:
        """Of the phase `experts`: near 64, and the same number of samples for every expert."""
        return 64 if not self.experts or 64 % self.experts == 0 else 8 * self.experts


def _knowledge(name: str, variant: str, field: str, value: float, question: str) -> Cell:
    return Cell(name, question, (variant,), ((f"knowledge.{field}", str(value)),), exploratory=True)


BASELINE = "none"
CELLS: tuple[Cell, ...] = (
    Cell(BASELINE, "knowledge"),
    *(Cell(name, "knowledge", (name,)) for name in ("textual", "visual", "both")),
    Cell("trained on", "experts", experts=1),
    Cell("4 experts", "experts", experts=4),
    Cell("2 experts", "experts", experts=2, exploratory=True),
    Cell("10 experts", "experts", experts=10, exploratory=True),
    Cell("4 experts, log-SNR", "experts", (), (("experts.stages", "log_snr"),), experts=4, exploratory=True),
    _knowledge("both, captions not repaired", "both", "append_rate", 0.0, "caption repair"),
    *(_knowledge(f"textual, w_a={w}", "textual", "attention_weight", w, "weights") for w in (0.1, 0.5, 1.0)),
    *(_knowledge(f"visual, w_l={w}", "visual", "loss_weight", w, "weights") for w in (0.01, 0.5, 1.0)),
)
"""In the order in which they are trained: "none" before those that start from it."""


def chosen(names: list[str], seeds: list[int]) -> list[tuple[Cell, int]]:
    """(cell, seed) of all runs, seed by seed; exploratory cells have the first of SEEDS alone."""
    known = {cell.name: cell for cell in CELLS}
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"--cells={unknown[0]} is not known: choose among {', '.join(known)}")
    cells = [known[name] for name in names] or list(CELLS)
    runs = [(cell, seed) for seed in seeds for cell in cells if not cell.exploratory]
    return runs + [(cell, SEEDS[0]) for cell in cells if cell.exploratory and SEEDS[0] in seeds]
