"""The instructions of docs/data.md and docs/finetuning.md, with users' images of each kind, and each variant."""

import json
import re
import shlex
import subprocess
import sys
from functools import reduce
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from configs.demo import VARIANTS
from ernie_vilg_jax.pipeline import DEMO
from tests.commands import Result, run_all
from tests.preparation.sources.test_own_images import write_tar
from tests.small_data import picture

ROOT = Path(__file__).parent.parent
COUNT = 90
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> Path:
    """A folder with images of each kind, by the names that docs/data.md has for them."""
    place = tmp_path_factory.mktemp("own")
    for name in ("my_images/cats", "shards", "hub"):
        (place / name).mkdir(parents=True)
    (place / "configs").symlink_to(ROOT / "configs")
    (place / "coco_captions").symlink_to(dataset)
    rows = []
    for n in range(COUNT):
        image, caption = picture(f"hsl({4 * n}, 100%, 50%)", kind="JPEG"), f"picture number {n}"
        (place / f"my_images/cats/{n}.jpg").write_bytes(image)
        rows.append({"image": {"bytes": image, "path": None}, "caption": caption})
    table = [{"file": f"cats/{n}.jpg", "zh": f"第{n}张", "en": row["caption"]} for n, row in enumerate(rows)]
    (place / "my_images/captions.jsonl").write_text("\n".join(map(json.dumps, table)))
    parquet.write_table(pyarrow.Table.from_pylist(rows), place / "hub/0.parquet")
    files = {f"{n}.jpg": row["image"]["bytes"] for n, row in enumerate(rows)}
    files |= {f"{n}.txt": row["caption"] for n, row in enumerate(rows)}
    write_tar(place / "shards/0.tar", files)
    return place


def documented(command: str, page: str = "data", section: str = "## Your own images") -> list[list[str]]:
    text = (ROOT / f"docs/{page}.md").read_text(encoding="utf-8").split(section)[1].split("\n## ")[0]
    text = re.sub(r"\\\n\s*", " ", text)
    lines = re.findall(rf"^python -m ernie_vilg_jax\.({command} .*)$", text, re.M)
    return [shlex.split(line, comments=True) for line in lines]


@pytest.fixture(scope="module")
def prepared_as_documented(place: Path) -> dict[str, Result]:
    plain = [command for command in documented("prepare") if "data/mine" in " ".join(command)]
    commands = {re.findall(r"--(folder|tars|parquet|tfds)=", " ".join(command))[0]: command for command in plain}
    assert commands.keys() == {"folder", "tars", "parquet", "tfds"}
    lines = [[word.replace("data/mine", f"data/{kind}") for word in words] for kind, words in commands.items()]
    return dict(zip(commands, run_all(lines, cwd=place), strict=True))


@pytest.mark.parametrize("kind", ["folder", "tars", "parquet", "tfds"])
def test_each_kind_is_prepared_as_documented(kind: str, place: Path, prepared_as_documented: dict[str, Result]):
    done = prepared_as_documented[kind]
    assert done.status == 0, done.stderr
    manifest = json.loads((place / f"data/{kind}/manifest.json").read_text())
    count = sum(split["records"] for split in manifest["splits"].values())
    assert count == (3 if kind == "tfds" else COUNT) and manifest["own_data"]


@pytest.mark.documents
def test_and_trained_with_each_variant_of_the_config(place: Path, prepared_as_documented: dict[str, Result]):
    (train,) = documented("train")
    assert all(done.status == 0 for done in prepared_as_documented.values())
    lines = [[word.replace("data/mine", f"data/{kind}") for word in train] for kind in ("folder", "tars", "parquet")]
    variants = [variant for variant in VARIANTS if variant != "knowledge"]  # which needs annotated records
    for variant in variants:
        lines.append([word.replace(":autoencoder", f":autoencoder,{variant}") for word in lines[0]])
    for line, done in zip(lines, run_all([[*line, "--dry_run"] for line in lines], cwd=place), strict=True):
        assert done.status == 0 and "verdict: it would start" in done.stdout, (line, done.stderr)


def test_a_model_is_tuned_on_them_as_documented(place: Path):
    (prepare,), (train,) = (documented(command, "finetuning", "## By hand") for command in ("prepare", "train"))
    lines = [prepare, [*train, "--dry_run"]]
    assert all(any("runs/first" in word for word in line) for line in lines)
    demo = {"runs/first": str(DEMO), "demo.py:experts": "demo.py:experts,composed"}  # the variant that it is of
    lines = [[reduce(lambda word, one: word.replace(*one), demo.items(), word) for word in line] for line in lines]
    for line, said in zip(lines, ("", "verdict: it would start"), strict=True):
        (done,) = run_all([line], cwd=place)
        assert done.status == 0 and said in done.stdout, (line, done.stderr)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("prepare --config=configs/demo.py --output=x --folder=nowhere", "path='nowhere' is not a folder"),
        ("prepare --config=configs/demo.py --output=x --tars=nowhere", "path='nowhere' matches no file"),
        ("prepare --config=configs/demo.py --output=x --parquet=nowhere", "path='nowhere' matches no file"),
        ("prepare --config=configs/demo.py --output=x --tars=0.tar --tars=1.tar", "--tars was given 2 times: put the"),
        ("prepare --config=configs/demo.py --output=x --tars=0.tar --parquet=x", "--tars and --parquet exclude each"),
        ("train --config=configs/demo.py:base --workdir=x --config.data.path=nowhere", "'nowhere' is not a directory"),
        ("train --config=configs/demo.py:base --workdir=x --config.data.path=my_images", "holds no manifest.json"),
    ],
)
def test_a_wrong_folder_is_reported_before_anything_is_loaded(command: str, message: str, place: Path):
    script = (
        "import runpy, sys\n"
        "sys.argv = sys.argv[1:]\n"
        "try:\n"
        "    runpy.run_module(f'ernie_vilg_jax.{sys.argv[0]}', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as stopped:\n"
        "    heavy = {'jax', 'flax', 'grain', 'transformers', 'tensorflow_datasets', 'pyarrow'} & set(sys.modules)\n"
        "    print(stopped.code, sorted(heavy))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *shlex.split(command)], cwd=place, text=True, capture_output=True, check=False
    )
    assert done.stdout == "1 []\n", done.stdout + done.stderr
    assert message in done.stderr and len(done.stderr.splitlines()) == 1
