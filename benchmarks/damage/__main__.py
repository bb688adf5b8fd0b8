"""Damages checkpoints and data in hundreds of ways, runs a user's command on them, and reports the outcomes.

    python -m benchmarks.damage --work=/tmp/damage                       # 300 cases, about ten minutes on two cores
    python -m benchmarks.damage --work=/tmp/damage --only=tokenizer --cases=50 --seed=1
    python -m benchmarks.damage --work=/tmp/damage --case=17             # one again; its files stay in DIR/rooms/17
    python -m benchmarks.damage --work=/tmp/damage --group=inputs        # what users bring; four minutes

`--group=inputs` needs no run. Its cases are tables, images, archives, folders, vocabularies, flags and requests in odd
forms, each with the outcome that it has to have; the seed is for what is random in them. Valid input has to be read as
by a reference without our readers, else it is `silent`, or `needless` if it was refused. Other input has to be refused
by a sentence that names it, else it is `silent` or `unclear`. The rest of this text is about the group `files`.

The first start makes a tiny run (a minute or two). Each case is a fresh copy, one seeded damage and one command:
`train`, `sample`, `checkpoint show` and `export`, `prepare`, `annotate`, `inspect_data`, or the loader over all
records. The outcome is `correct` (as with undamaged files, bit for bit), `refused` (one sentence), or a fault:
`silent` (exit status 0 and another result), `traceback`, `hang`, `partial` (files outside were written, or files lost).
Exit status 1 if there are faults. Commands run in forks of a process that has imported everything; ten of them run as
separate processes.
"""

import argparse
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.damage import forks, world
from benchmarks.damage.cases import FAMILIES, cases
from benchmarks.damage.inputs import run as inputs
from benchmarks.damage.kinds import GOOD, OUTCOMES, Case
from benchmarks.damage.room import BROKEN, UNFIT, Room, play, verdict


@dataclass(frozen=True)
class Finding:
    """The outcome of a case.

    Attributes:
      kind, command: its rows in the tables.
      done: what was done, in words.
    """

    number: int
    kind: str
    command: str
    done: str
    outcome: str
    why: str
    processor: float


def main() -> None:
    arguments = parse()
    work = Path(arguments.work).absolute()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the forks, too
    forks.prepare_imports(work / "xla")
    start = time.monotonic()
    if arguments.group == "inputs":
        forks.import_all(inputs.LIBRARIES)
        run = input_findings(work, arguments)
    else:
        home = world.make_world(work, arguments.workers)
        wanted = list(islice(chosen(arguments), 1 if arguments.case is not None else arguments.cases or 300))
        expected = world.expected_results(work, home, [case.use for case in wanted], arguments.workers)
        run = findings(wanted, expected, work, home, arguments)
    made = time.monotonic() - start
    start = time.monotonic()
    found = []
    for finding in run:
        found.append(finding)
        if finding.outcome not in GOOD or arguments.case is not None:
            print(line_of(finding), flush=True)
    seconds = time.monotonic() - start
    if arguments.case is not None:
        room = work / "rooms" / str(arguments.case)
        print(f"{(room / 'out' / 'stderr').read_text(errors='replace')}files: {room}")
    else:
        text = report(found, seconds, made, arguments)
        print(text)
        if arguments.report:
            Path(arguments.report).write_text(text)
    sys.exit(int(any(finding.outcome not in GOOD for finding in found)))


def parse() -> argparse.Namespace:
    # Not absl, because the commands in the forks define flags of the same names.
    parser = argparse.ArgumentParser(
        "benchmarks.damage", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", required=True, help="folder for everything, 100 MB")
    parser.add_argument("--group", choices=("files", "inputs"), default="files", help="damaged files, or odd inputs")
    parser.add_argument("--cases", type=int, help="how many; 300 of files and all inputs by default")
    parser.add_argument("--seed", type=int, default=0, help="decides which cases are drawn")
    parser.add_argument("--only", choices=(*FAMILIES, *inputs.FAMILIES), help="these files, or inputs, only")
    parser.add_argument("--commands", help="only commands whose names begin so: sample,read,train")
    parser.add_argument("--case", type=int, help="run this one case again; --only and --cases do not matter")
    parser.add_argument("--real", type=int, default=10, help="number of cases that run as separate processes")
    parser.add_argument("--workers", type=int, default=2, help="cases at once")
    parser.add_argument("--limit", type=float, default=120, help="seconds after which a case counts as hanging")
    parser.add_argument("--report", help="file for the report, Markdown")
    return parser.parse_args()


def chosen(arguments: argparse.Namespace) -> Iterator[Case]:
    """The cases that the flags select; a number is always the same case, whatever the other flags."""
    if arguments.case is not None:
        return islice(cases(arguments.seed), arguments.case, None)
    commands = tuple(arguments.commands.split(",")) if arguments.commands else ("",)
    return (
        case
        for case in cases(arguments.seed)
        if arguments.only in (None, case.part.family) and case.use.name.startswith(commands)
    )


def findings(
    wanted: Sequence[Case], expected: Mapping[str, Any], work: Path, home: Path, arguments: argparse.Namespace
) -> Iterator[Finding]:
    """Runs the cases, some of them as separate processes; yields each as it ends."""
    every = max(len(wanted) // arguments.real, 1) if arguments.real else len(wanted) + 1
    rooms = {case.number: Room(work / "rooms" / str(case.number)) for case in wanted}
    jobs = []
    for place, case in enumerate(wanted, 1):
        rng, room = Random(f"{arguments.seed}/{case.number}"), rooms[case.number]
        jobs.append((case, partial(play, room, home, case.use, case.part, case.damage, rng, place % every == 0)))
    for case, ended in forks.all_of(jobs, arguments.workers, arguments.limit):
        room = rooms[case.number]
        if ended.status == UNFIT:
            continue
        if ended.status == BROKEN:
            raise SystemExit(f"case {case.number} broke the benchmark:\n{(room.path / 'broken.txt').read_text()}")
        outcome, why = verdict(room, case.use, ended.status, ended.hung, expected[case.use.name])
        done = f"{case.use.name} after {case.damage.name} ({room.read('damage.json') or ''})"
        yield Finding(case.number, case.damage.name, case.use.name, done, outcome, why, ended.processor)
        if outcome in GOOD and arguments.case is None:
            shutil.rmtree(room.path, ignore_errors=True)


def input_findings(work: Path, arguments: argparse.Namespace) -> Iterator[Finding]:
    """The same for inputs."""
    wanted = [
        (number, given)
        for number, given in enumerate(inputs.INPUTS)
        if arguments.case in (None, number) and arguments.only in (None, given.family)
    ]
    rooms = {number: Room(work / "rooms" / str(number)) for number, _ in wanted}
    jobs = [
        ((number, given), partial(inputs.play, rooms[number], given, Random(f"{arguments.seed}/{number}")))
        for number, given in wanted[: arguments.cases]
    ]
    for (number, given), ended in forks.all_of(jobs, arguments.workers, arguments.limit):
        room = rooms[number]
        if ended.status == BROKEN:
            raise SystemExit(f"case {number} broke the benchmark:\n{(room.path / 'broken.txt').read_text()}")
        outcome, why = inputs.verdict(room, ended.status, ended.hung)
        done = f"{given.family}: {given.name}"
        yield Finding(number, given.family, inputs.command(room), done, outcome, why, ended.processor)
        if outcome in GOOD and arguments.case is None:
            shutil.rmtree(room.path, ignore_errors=True)


def line_of(finding: Finding) -> str:
    return f"--case={finding.number}: {finding.done}: {finding.outcome}: {finding.why}"


def report(found: list[Finding], seconds: float, made: float, arguments: argparse.Namespace) -> str:
    """The tables and the faults, as Markdown."""
    outcomes = Counter(finding.outcome for finding in found)
    faults = [finding for finding in found if finding.outcome not in GOOD]
    processor = sum(finding.processor for finding in found)
    head = ", ".join(f"{outcomes[outcome]} {outcome}" for outcome in shown_outcomes(outcomes))
    lines = [
        f"{len(found)} cases of seed {arguments.seed}: {head}.",
        f"{seconds:.0f} s ({processor:.0f} s of the processor), {made:.0f} s before that to get ready.",
    ]
    lines += [
        "",
        *table(
            "inputs" if arguments.group == "inputs" else "damage",
            [(finding.kind, finding.outcome) for finding in found],
        ),
    ]
    lines += ["", *table("command", [(finding.command, finding.outcome) for finding in found])]
    if faults:
        lines += [
            "",
            f"To run one of these again, use --group={arguments.group} --seed={arguments.seed} and its --case:",
            "",
        ]
        lines += [f"- {line_of(finding)}" for finding in sorted(faults, key=lambda finding: finding.number)]
    return "\n".join(lines) + "\n"


def shown_outcomes(outcomes: Mapping[str, int]) -> list[str]:
    """All outcomes of a kind; those of one group alone only if they occurred."""
    return [*OUTCOMES, *(outcome for outcome in inputs.OUTCOMES if outcome in outcomes)]


def table(title: str, rows: list[tuple[str, str]]) -> list[str]:
    """A table of names by outcomes, in alphabetical order."""
    counts = Counter(rows)
    every = Counter(outcome for _, outcome in rows)
    shown = [outcome for outcome in shown_outcomes(every) if outcome in GOOD or every[outcome]]
    lines = [f"| {title} | {' | '.join(shown)} |", "| --- |" + " --- |" * len(shown)]
    for name in sorted({name for name, _ in rows}):
        lines.append(f"| {name} | " + " | ".join(str(counts[name, outcome] or "") for outcome in shown) + " |")
    return lines


if __name__ == "__main__":
    main()
