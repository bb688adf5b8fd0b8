r"""The paper's ablations on a small model: do knowledge and experts help, by binding scores with intervals?

    python -m benchmarks.ablations --work=ablations                     # everything; goes on where it stopped
    python -m benchmarks.ablations --work=ablations --seeds=0 --cells=none    # the pilot: is the baseline at 30 to 80%?
    python -m benchmarks.ablations --work=ablations --report=docs       # docs/ablations.md, ablations.json, plots

By the documented commands, on configs/small_ablation.py: prepare, annotate, one autoencoder for all, then for each
cell and seed `train` and `evaluate` (a sweep of guidance scales). Two of them may run side by side if they have
different --seeds and the first has made data and autoencoder. Needs `pip install '.[annotate,evaluate]'`.
"""

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.ablations.cells import BASELINE, EXPERTS_SAMPLES, SEEDS, Cell, chosen

ROOT = Path(__file__).parents[2]
CONFIG = "configs/small_ablation.py"
SCALES = "1,2,3,6"
PROMPTS = 192


def command(work: Path, name: str, module: str, *arguments: str) -> None:
    """Runs `python -m ernie_vilg_jax.<module>` unless it ended well before; its output goes to logs/<name>.log."""
    done, log = work / "done" / name, work / "logs" / f"{name}.log"
    if done.exists():
        return
    for path in (done, log):
        path.parent.mkdir(parents=True, exist_ok=True)
    line = [sys.executable, "-m", f"ernie_vilg_jax.{module}", *arguments]
    started = time.monotonic()
    with log.open("a") as file:
        status = subprocess.run(line, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, env=_environment()).returncode
    if status:
        end = "\n".join(log.read_text().splitlines()[-15:])
        raise SystemExit(f"{' '.join(line)}\nended with status {status}; {log} ends with\n{end}")
    done.write_text(f"{time.monotonic() - started:.0f} s\n")
    print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)


def _environment() -> dict[str, str]:
    return {**os.environ, "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "cpu")}


def common(work: Path) -> None:
    """Data, their annotation, prompts and the autoencoder, which all cells share."""
    command(work, "prepare", "prepare", f"--config={CONFIG}", f"--output={work / 'data'}")
    command(work, "annotate", "annotate", f"--input={work / 'data'}", f"--output={work / 'annotated'}")
    write_prompts(work)
    settings = [f"--config={CONFIG}:autoencoder", f"--config.data.path={work / 'data'}"]
    command(work, "autoencoder", "train", *settings, f"--workdir={work / 'autoencoder'}")


def write_prompts(work: Path) -> None:
    """Two things and their relation, half of them with a combination of colour and shape that was held out."""
    from configs.small_ablation import get_config
    from ernie_vilg_jax.preparation.sources import make_source
    from ernie_vilg_jax.preparation.sources.distracted import DistractedSource
    from ernie_vilg_jax.preparation.sources.scenes import captions
    from ernie_vilg_jax.preparation.splits import is_held_out

    config = get_config()
    source = make_source({**config.data.sources[0], "seed": 1}, size=config.model.image_size)
    assert isinstance(source, DistractedSource)
    found: dict[str, list[int]] = {"seen": [], "new": []}
    for index in itertools.count():
        plan = source.plan(index)
        new = any(is_held_out(unit, config.data.holdout_fraction) for unit in source.units(plan))
        mine = found["new" if new else "seen"]
        if len(plan.things) == 2 and len(mine) < PROMPTS // 2:
            mine.append(index)
        elif sum(map(len, found.values())) == PROMPTS:
            break
    images, lines = work / "real", []
    images.mkdir(parents=True, exist_ok=True)
    for category, indices in found.items():
        for number, index in enumerate(indices):
            name, language = f"{category}_{number:03d}", config.data.language
            (images / f"{name}.png").write_bytes(source.record(index).image)
            prompt = {"id": name, "prompt": captions(source.plan(index))[language][0], "category": category}
            lines.append(json.dumps(prompt, ensure_ascii=False))
    (work / "prompts.jsonl").write_text("\n".join(lines) + "\n")


def ceiling(work: Path) -> None:
    """The score of real images of the prompts: what the checker makes of 32 pixels."""
    inputs = [f"--images={work / 'real'}", f"--prompts={work / 'prompts.jsonl'}", "--metrics=binding"]
    command(work, "ceiling", "evaluate", *inputs, f"--output={work / 'ceiling'}")


def run(work: Path, cell: Cell, seed: int) -> None:
    """Trains and scores a cell; `none` of the seed must be there if it has experts."""
    name = f"{cell.folder}/{seed}"
    folder = work / "runs" / name
    phase = "experts" if cell.experts else "base"
    data = work / ("annotated" if cell.variants else "data")
    settings = [f"--config={CONFIG}:{','.join((phase, *cell.variants))}", f"--config.data.path={data}"]
    settings += [f"--config.seed={seed}", *(f"--config.{field}={value}" for field, value in cell.settings)]
    if cell.experts:
        steps = EXPERTS_SAMPLES // cell.batch_size
        settings += [f"--config.experts.n={cell.experts}", f"--config.phases.experts.batch_size={cell.batch_size}"]
        settings += [f"--config.phases.experts.steps={steps}"]
        start = work / "runs" / BASELINE / str(seed) / "base"
    else:
        start = work / "autoencoder" / "autoencoder"
    if not (folder / start.name).exists():  # whole, also if it is killed meanwhile
        shutil.copytree(start, folder / f".{start.name}", dirs_exist_ok=True)
        (folder / f".{start.name}").rename(folder / start.name)
    command(work, f"{name}/train", "train", *settings, f"--workdir={folder}")
    sampling = [f"--guidance_scales={SCALES}", "--steps=25", f"--seed={seed}", "--num_images=1"]
    sampling += ["--metrics=binding,kid_efficientnet", f"--reference={work / 'data'}"]
    inputs = [f"--checkpoint={folder}", f"--prompts={work / 'prompts.jsonl'}"]
    command(work, f"{name}/scores", "evaluate", *inputs, *sampling, f"--output={folder / 'scores'}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.ablations", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder of data, runs and scores (some 3 GB)")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)), help="some of 0,1,2,3,4")
    parser.add_argument("--cells", default="", help="names of some cells, separated by ;")
    parser.add_argument("--report", type=Path, help="only write the report from what is there, to this folder")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    if arguments.report:
        from benchmarks.ablations.report import write

        write(work, arguments.report)
        return
    common(work)
    ceiling(work)
    names = [name.strip() for name in arguments.cells.split(";") if name.strip()]
    for cell, seed in chosen(names, [int(seed) for seed in arguments.seeds.split(",")]):
        run(work, cell, seed)


if __name__ == "__main__":
    main()
