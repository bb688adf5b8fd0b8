"""The command `finetune`: from a folder of images to a better model; bad input in one sentence."""

import dataclasses
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest
from etils import epath

from ernie_vilg_jax import checkpointing, pipeline
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.finetuning.judge import read_note
from ernie_vilg_jax.finetuning.origin import Origin
from ernie_vilg_jax.finetuning.run import finetune, outcome, own_records, prepare_data, tell_words
from ernie_vilg_jax.finetuning.settings import Settings
from ernie_vilg_jax.interop import lora as files
from ernie_vilg_jax.interop.layout import flat
from ernie_vilg_jax.interop.lora import FILE
from ernie_vilg_jax.models import lora
from tests.commands import run_all
from tests.documents import blocks
from tests.small_data import picture
from tests.stamps import choose, fetch

COLOURS = ("red", "blue", "green", "orange", "purple", "black", "cyan", "pink", "brown", "grey")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten images of one colour each, with captions in both languages."""
    folder = tmp_path_factory.mktemp("own")
    for colour in COLOURS:
        (folder / f"{colour}.png").write_bytes(picture(colour))
        (folder / f"{colour}.txt").write_text(f"a {colour} wall\n一面{colour}的墙\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--images=nowhere", "--images=nowhere: there is no such folder"),
        ("--method=all", "--method=all"),
        ("--rank=0", "--rank=0"),
        ("--batch_size=2", "--batch_size=2 must be a multiple of"),
        ("--old_share=1", "--old_share=1.0 is a share of each batch"),
        ("--holdout=0", "--holdout=0.0 is the share of your images"),
        ("--experts=one", "--experts=one must be numbers of experts"),
        ("--experts=0 --method=full", "--experts is for --method=lora"),
        ("--experts=7 --method=lora", "--experts=7 must name different stages"),
        ("--from=nowhere", "--from=nowhere: there is no such folder"),
        ("--targets=( --method=lora", "--targets: '(' is not a regular expression"),
        ("--targets=attic --method=lora", "--targets: 'attic' is in the name of no module"),
        ("--old_prompts=nowhere.txt", "--old_prompts=nowhere.txt: there is no such file"),
        ("--output=/proc/x", "--output=/proc/x cannot be written"),
        ("--steps=0", "--steps=0"),
    ],
)
@pytest.mark.hosts
def test_bad_input_is_one_sentence(arguments: str, message: str, folder: Path, tmp_path: Path) -> None:
    given = {"from": "demo", "images": str(folder), "output": "runs/mine", "old_share": "0"}
    given |= dict(word.removeprefix("--").split("=", 1) for word in arguments.split())
    if "old_prompts" in given:
        given["old_share"] = "0.5"
    (done,) = run_all([["finetune", *(f"--{name}={value}" for name, value in given.items())]], cwd=tmp_path)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.status == 1 and len(lines) == 1 and message in lines[0], done.stderr
    assert "Traceback" not in done.stderr and "config." not in lines[0]


@pytest.mark.hosts
@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_run_is_tuned_goes_on_and_is_used(
    method: str, whole_run: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jax, "devices", lambda *_: jax.local_devices()[:1])
    settings = Settings(method=method, steps=4, every=2, batch_size=4, learning_rate=3e-3, holdout=0.2)
    if method == "lora":
        settings = dataclasses.replace(settings, rank=2)
    finetune(str(whole_run), folder, tmp_path / "mine", settings)
    seen = read_note(tmp_path / "mine")
    assert list(seen) == [0, 2, 4] and {"seen", "held_out", "old"} <= set(seen[0])
    steps = checkpointing.steps(epath.Path(tmp_path) / "mine/experts/checkpoints")
    again = finetune(str(whole_run), folder, tmp_path / "mine", settings)
    assert read_note(tmp_path / "mine") == seen
    assert checkpointing.steps(epath.Path(tmp_path) / "mine/experts/checkpoints") == steps
    assert again.best == max((2, 4), key=lambda step: seen[step]["score"]) and again.scores["gain"] > 0
    assert (tmp_path / "mine/grid.png").is_file() and len((tmp_path / "mine/prompts.txt").read_text().splitlines()) > 8
    made = pipeline.load(tmp_path / "mine/best")
    # What was trained is changed, and nothing else.
    before = pipeline.load(whole_run)
    changed = {
        f"{name}/{path}"
        for name, one, other in (
            ("unet", before.params.experts[1], made.params.experts[1]),
            ("text", before.params.text_encoder, made.params.text_encoder),
        )
        for path, leaf in flat(one).items()
        if not np.array_equal(leaf, flat(other)[path])
    }
    if method == "full":
        assert {"unet/conv_in/bias", "unet/mid_attn/qkv/kernel", "text/layer_00/qkv/kernel"} <= changed
    else:
        assert "unet/mid_attn/qkv/kernel" in changed and "text/layer_00/qkv/kernel" in changed
        assert all(path.endswith(("/kernel", "/embedding")) and "norm" not in path for path in changed)
        file = pipeline.load(whole_run, lora=tmp_path / "mine" / FILE)
        for path, leaf in flat(made.params.experts[1]).items():
            np.testing.assert_allclose(leaf, flat(file.params.experts[1])[path], atol=1e-6)
    with pytest.raises(UserError, match="begun with another --seed"):
        finetune(str(whole_run), folder, tmp_path / "mine", dataclasses.replace(settings, seed=3))


@pytest.fixture(scope="module")
def stamps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty real images with captions in both languages."""
    folder = tmp_path_factory.mktemp("stamps")
    assert len(choose(fetch(folder), folder / "my_images")) == 40
    return folder


@pytest.mark.network
def test_new_words_of_real_captions_are_told(stamps: Path) -> None:
    origin = Origin.of("demo")
    data = prepare_data(origin, stamps / "my_images", stamps / "data", Settings())
    assert len(own_records(data)) + len(own_records(data, "holdout")) == 40
    words = tell_words(origin, data)
    assert {"quetzal", "蜻", "蜓"} <= set(words) and not {"a", "red", "apple", "一", "只"} & set(words)


@pytest.fixture(scope="module")
def tuned(stamps: Path) -> Callable[[str], tuple[Path, float]]:
    """tuned(method) -> the folder that the documented lines wrote, and the seconds that they took."""
    block = next(one for one in blocks.blocks() if one.page == "docs/finetuning.md")
    lines = [words[2:] for words in blocks.words(blocks.commands_of(block))]
    assert [line[0].rpartition(".")[2] for line in lines] == ["finetune", "sample", "checkpoint"]

    @cache
    def run(method: str) -> tuple[Path, float]:
        name = {"full": "mine"}.get(method, method)
        typed = [[word.replace("/mine", f"/{name}") for word in line] for line in lines]
        commands = [[module.rpartition(".")[2], *arguments] for module, *arguments in typed]
        commands[0] += [] if method == "full" else [f"--method={method}"]
        start = time.monotonic()
        users = {"XLA_FLAGS": "", "JAX_COMPILATION_CACHE_DIR": str(stamps / "xla")}  # not those of tests
        results = run_all(commands, cwd=stamps, environment=users)
        seconds = time.monotonic() - start
        assert [one.status for one in results] == [0, 0, 0], [one.stderr[-2000:] for one in results]
        return stamps / "runs" / name, seconds

    return run


@pytest.mark.network
@pytest.mark.hosts
@pytest.mark.parametrize("method", ["full", "lora"])
def test_forty_real_images_are_learnt_and_old_prompts_kept(
    method: str, tuned: Callable[[str], tuple[Path, float]]
) -> None:
    """As documented, in a quarter of an hour on two cores."""
    folder, seconds = tuned(method)
    best = outcome(folder)
    print(f"{method}: {seconds / 60:.1f} minutes, step {best.best}: {best.scores}")
    assert best.best and best.scores["kept"] >= 0.95 and best.scores["gain"] > 0
    assert (folder / "grid.png").is_file() and (folder.parents[1] / "exported" / folder.name).is_dir()
    assert seconds < 15 * 60


@pytest.mark.network
@pytest.mark.hosts
def test_forty_real_images_are_learnt_by_few_parameters(tuned: Callable[[str], tuple[Path, float]]) -> None:
    (full, _), (few, _) = tuned("full"), tuned("lora")
    assert outcome(few).scores["gain"] >= 0.9 * outcome(full).scores["gain"]
    model = pipeline.load().model
    networks = files.network_shapes(model)
    all_of_them = model.stages.n * lora.count(networks["unet"]) + lora.count(networks["text_encoder"])
    assert lora.count(dict(files.read(few / FILE, model).trees)) <= 0.05 * all_of_them
