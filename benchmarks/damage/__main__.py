"""Damages checkpoints and data in hundreds of ways, runs what a user would run, and says what came of it.

    python -m benchmarks.damage --work=/tmp/damage                       # 300 cases, some ten minutes on two cores
    python -m benchmarks.damage --work=/tmp/damage --only=tokenizer --cases=50 --seed=1
    python -m benchmarks.damage --work=/tmp/damage --case=17             # one again; its files stay in DIR/rooms/17

The first start makes a tiny run (a minute or two). Each case is a fresh copy, one seeded damage and one command:
`train`, `sample`, `checkpoint show` and `export`, `prepare`, `annotate`, `inspect_data`, or the loader over all
records. The outcome is `correct` (the result of undamaged files, bit for bit), `refused` (one sentence), or a fault:
`silent` (exit status 0 and another result), `traceback`, `hang`, `partial` (files outside were written, or files lost).
Exit status 1 when there are faults. Commands run in forks of a process that has imported everything; ten of them as
processes of their own.
"""

import argparse
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random

from benchmarks.damage import forks, world
from benchmarks.damage.cases import FAMILIES, cases
from benchmarks.damage.kinds import GOOD, OUTCOMES, Case
from benchmarks.damage.room import BROKEN, UNFIT, Room, play, verdict


@dataclass(frozen=True)
class Finding:
    """What came of a case."""

    case: Case
    damage: str
    outcome: str
    why: str
    sentence: str
    processor: float


def main() -> None:
    arguments = parse()
    work = Path(arguments.work).absolute()
    forks.prepare_imports(work / "xla")
    start = time.monotonic()
    home = world.make_world(work, arguments.workers)
    made = time.monotonic() - start
    wanted: Iterable[Case] = cases(arguments.seed)
    if arguments.case is not None:
        wanted = [next(islice(wanted, arguments.case, None))]
    elif arguments.only:
        wanted = (case for case in wanted if case.part.family == arguments.only)
    start = time.monotonic()
    found = []
    for finding in findings(wanted, work, home, arguments):
        found.append(finding)
        if finding.outcome not in GOOD or arguments.case is not None:
            print(line_of(finding), flush=True)
    seconds = time.monotonic() - start
    if arguments.case is not None:
        room = work / "rooms" / str(arguments.case)
        print(f"{finding_text(found)}\n{(room / 'out' / 'stderr').read_text()}files: {room}")
    else:
        text = report(found, seconds, made, arguments)
        print(text)
        if arguments.report:
            Path(arguments.report).write_text(text)
    sys.exit(int(any(finding.outcome not in GOOD for finding in found)))


def parse() -> argparse.Namespace:
    # Not absl: the commands that run in forks define flags of the same names.
    parser = argparse.ArgumentParser(
        "benchmarks.damage", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", required=True, help="folder for everything, 100 MB")
    parser.add_argument("--cases", type=int, default=300, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws others")
    parser.add_argument("--only", choices=FAMILIES, help="damage to these files only")
    parser.add_argument("--case", type=int, help="this one case again, whatever --only and --cases say")
    parser.add_argument("--real", type=int, default=10, help="so many cases run as processes of their own")
    parser.add_argument("--workers", type=int, default=2, help="cases at once")
    parser.add_argument("--limit", type=float, default=120, help="seconds after which a case counts as hanging")
    parser.add_argument("--report", help="file for the report, Markdown")
    return parser.parse_args()


def findings(wanted: Iterable[Case], work: Path, home: Path, arguments: argparse.Namespace) -> Iterator[Finding]:
    """Runs cases until enough of them could be made."""
    expected = world.expected_results(home)
    count = 1 if arguments.case is not None else arguments.cases
    every = max(count // arguments.real, 1) if arguments.real else 0
    left = [count]

    def jobs() -> Iterator[tuple[Case, Callable[[], int]]]:
        for place, case in enumerate(wanted):
            if left[0] <= 0:
                return
            left[0] -= 1  # given back where the case cannot be made
            real = bool(every) and place % every == every - 1
            rng = Random(f"{arguments.seed}/{case.number}")
            room = Room(work / "rooms" / str(case.number))
            yield case, partial(play, room, home, case.use, case.part, case.damage, rng, real)

    for case, ended in forks.all_of(jobs(), arguments.workers, arguments.limit):
        room = Room(work / "rooms" / str(case.number))
        if ended.status == UNFIT:
            left[0] += 1
            continue
        if ended.status == BROKEN:
            raise SystemExit(f"case {case.number} broke the benchmark:\n{(room.path / 'broken.txt').read_text()}")
        outcome, why = verdict(room, case.use, ended.status, ended.hung, expected[case.use.name])
        said = [line for line in room.log("stderr").splitlines() if line.startswith("error: ")]
        yield Finding(case, room.read("damage.json") or "", outcome, why, "".join(said[-1:]), ended.processor)
        if outcome in GOOD and arguments.case is None:
            shutil.rmtree(room.path, ignore_errors=True)


def line_of(finding: Finding) -> str:
    case = finding.case
    done = f"{case.use.name} after {case.damage.name} ({finding.damage})"
    return f"--case={case.number}: {done}: {finding.outcome}: {finding.why}"


def finding_text(found: list[Finding]) -> str:
    return "\n".join(finding.sentence for finding in found)


def report(found: list[Finding], seconds: float, made: float, arguments: argparse.Namespace) -> str:
    """The tables and the faults, as Markdown."""
    outcomes = Counter(finding.outcome for finding in found)
    faults = [finding for finding in found if finding.outcome not in GOOD]
    processor = sum(finding.processor for finding in found)
    head = ", ".join(f"{outcomes[outcome]} {outcome}" for outcome in OUTCOMES)
    lines = [
        f"{len(found)} cases of seed {arguments.seed}: {head}.",
        f"{seconds:.0f} s ({processor:.0f} s of the processor), {made:.0f} s before that for the undamaged files.",
    ]
    lines += ["", *table("damage", [(finding.case.damage.name, finding.outcome) for finding in found])]
    lines += ["", *table("command", [(finding.case.use.name, finding.outcome) for finding in found])]
    if faults:
        lines += ["", f"Each of these is made again by --seed={arguments.seed} and its --case:", ""]
        lines += [f"- {line_of(finding)}" for finding in sorted(faults, key=lambda finding: finding.case.number)]
    return "\n".join(lines) + "\n"


def table(title: str, rows: list[tuple[str, str]]) -> list[str]:
    """Names by outcomes, in the order in which names first come by alphabet."""
    counts = Counter(rows)
    shown = [outcome for outcome in OUTCOMES if outcome in GOOD or any(row[1] == outcome for row in rows)]
    lines = [f"| {title} | {' | '.join(shown)} |", "| --- |" + " --- |" * len(shown)]
    for name in sorted({name for name, _ in rows}):
        lines.append(f"| {name} | " + " | ".join(str(counts[name, outcome] or "") for outcome in shown) + " |")
    return lines


if __name__ == "__main__":
    main()
