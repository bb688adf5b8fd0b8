"""Loading a trained run and sampling from it."""

import gc
import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

from ernie_vilg_jax import checkpointing
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation.publish import publish
from ernie_vilg_jax.pipeline import Pipeline, export, load
from tests.disks import Disk

pytestmark = pytest.mark.slow

PROMPTS = ["红色的圆形", "a blue square", "一个绿色的三角形"]


@pytest.fixture(scope="module")
def pipe(whole_run: Path) -> Pipeline:
    return load(whole_run)


def arrays(images: list) -> np.ndarray:
    return np.stack([np.asarray(image) for image in images])


def test_images_of_chinese_and_english_prompts(pipe: Pipeline) -> None:
    images = pipe(PROMPTS, num_images=2, steps=3, seed=5)
    assert len(images) == 6
    assert {(image.size, image.mode) for image in images} == {((16, 16), "RGB")}
    assert len({image.tobytes() for image in images}) == 6


def test_stage_1_samples_with_its_single_unet(whole_run: Path) -> None:
    single = load(whole_run / "base")
    assert single.stages.n == len(single.params.experts) == 1
    assert len(single("红色的圆形", steps=2)) == 1


@pytest.mark.parametrize(
    ("mode", "mesh"),
    [
        ("streamed", None),
        pytest.param("streamed", {"fsdp": 2, "data": -1}, marks=pytest.mark.proofs),
        ("pipelined", {"expert": 2}),
        pytest.param("resident", {"data": 8}, marks=pytest.mark.proofs),
    ],
    ids=["streamed from disk", "streamed from a mesh", "pipelined", "resident on a mesh"],
)
def test_every_mode_makes_the_same_images(pipe: Pipeline, whole_run: Path, mode: str, mesh: dict | None) -> None:
    other = load(whole_run, mode=mode, mesh=mesh)
    expected = arrays(pipe(PROMPTS, steps=3, seed=1, guidance_scale=3.0)).astype(int)
    for _ in range(2):
        assert np.abs(arrays(other(PROMPTS, steps=3, seed=1, guidance_scale=3.0)) - expected).max() <= 1


def test_streamed_without_guidance(pipe: Pipeline, whole_run: Path) -> None:
    plain = arrays(pipe(PROMPTS[0], steps=2, guidance_scale=1.0)).astype(int)
    streamed = load(whole_run, mode="streamed")(PROMPTS[0], steps=2, guidance_scale=1.0)
    assert np.abs(arrays(streamed) - plain).max() <= 1


def test_streamed_reads_experts_only_when_it_samples(whole_run: Path, tmp_path: Path) -> None:
    shutil.copytree(whole_run / "experts/checkpoints/8", tmp_path / "8")
    streamed = load(tmp_path / "8", mode="streamed")
    for file in (tmp_path / "8/expert_00").rglob("*"):
        if file.is_file() and file.stat().st_size > 2000:
            file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"cannot be read .*: it is damaged"):
        streamed("红色的圆形", steps=2)


@pytest.mark.parametrize(
    ("mode", "mesh", "message"),
    [
        ("magic", None, "mode='magic' must be one of resident, streamed, pipelined"),
        ("pipelined", None, "mode='pipelined' needs groups of devices .* use mesh={'expert': 2}"),
        ("streamed", {"data": 3}, r"^mesh: \(.*data=3.* needs 3 devices, but there are 8"),
        ("streamed", {"experts": 2}, "mesh: it has no axis experts; its axes are expert, data, fsdp, tensor"),
    ],
)
def test_modes_and_meshes_that_do_not_fit(whole_run: Path, mode: str, mesh: dict | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(whole_run, mode=mode, mesh=mesh)


def test_export_is_small_and_samples_alike(pipe: Pipeline, whole_run: Path, tmp_path: Path) -> None:
    size = export(whole_run, tmp_path / "out")
    run_size = sum(f.stat().st_size for f in (whole_run / "experts/checkpoints/8").rglob("*") if f.is_file())
    assert size < run_size / 2
    exported = load(tmp_path / "out")
    assert exported.tokenizer.encode(PROMPTS[0])[0].tolist() == pipe.tokenizer.encode(PROMPTS[0])[0].tolist()
    difference = np.abs(arrays(exported(PROMPTS, steps=3)).astype(int) - arrays(pipe(PROMPTS, steps=3)))
    assert difference.mean() < 3, "bf16 rounds to three digits"
    with pytest.raises(UserError, match="is not empty"):
        export(whole_run, tmp_path / "out")


def test_an_export_that_fails_leaves_the_one_before_it(
    whole_run: Path, tmp_path: Path, disk: Callable[[int], Disk]
) -> None:
    size = sum(file.stat().st_size for file in (whole_run / "experts/checkpoints/8").rglob("*")) // 1024
    folder = disk(2 * size).path / "out"
    export(whole_run, folder)
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}
    with pytest.raises(UserError, match="holds no checkpoint"):
        export(tmp_path, folder, overwrite=True)
    (folder.parent / "filler").write_bytes(bytes(1024 * (shutil.disk_usage(folder).free // 1024 - 20)))
    with pytest.raises(UserError, match=r"out could not be written \(No space left on device\)"):
        export(whole_run, folder, overwrite=True)
    assert {
        file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file() and ".partial" not in str(file)
    } | before == before
    (folder.parent / "filler").unlink()
    export(whole_run, folder, overwrite=True, prompts=["new"])
    assert list(load(folder).config.train.preview_prompts) == ["new"]
    assert not list(folder.glob(".partial"))
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match="file is a file; name a folder"):
        export(whole_run, tmp_path / "file", overwrite=True)
    assert (tmp_path / "file").read_text() == "kept"


def test_missing_and_foreign_checkpoints(whole_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no checkpoint"):
        load(tmp_path)
    shutil.copytree(whole_run / "autoencoder", tmp_path / "young" / "autoencoder")
    with pytest.raises(UserError, match=r"young: this run has an autoencoder alone: `train` its base first"):
        load(tmp_path / "young")
    shutil.copytree(whole_run / "experts/checkpoints/8", tmp_path / "8")
    shutil.rmtree(tmp_path / "8/expert_01")
    with pytest.raises(UserError, match="lacks expert_01: it is incomplete"):
        load(tmp_path / "8")


def test_damaged_checkpoint(whole_run: Path, tmp_path: Path) -> None:
    shutil.copytree(whole_run / "experts/checkpoints/8", tmp_path / "8")
    for file in (tmp_path / "8/expert_00").rglob("*"):
        if file.is_file() and file.stat().st_size > 2000:
            file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"cannot be read .*: it is damaged"):
        load(tmp_path / "8")


def test_an_export_holds_the_averages_in_half_precision_and_needs_no_device(
    pipe: Pipeline, whole_run: Path, tmp_path: Path
) -> None:
    def held() -> int:
        gc.collect()  # arrays in cycles, of whatever ran before
        return sum(array.nbytes for array in jax.live_arrays())

    before = held()
    export(whole_run, tmp_path / "small")
    assert held() == before
    found = checkpointing.find(tmp_path / "small")
    averages = {"text_encoder": pipe.params.text_encoder, "expert_01": pipe.params.experts[1]}
    for name, tree in averages.items():
        half = jax.tree.map(lambda leaf: np.asarray(leaf.astype("bfloat16")).tobytes(), tree)
        kept = checkpointing.read_whole(found, name)
        assert set(kept) == {"ema"}
        assert jax.tree.map(lambda leaf: np.asarray(leaf).tobytes(), kept["ema"]) == half


def test_a_published_folder_is_an_export_with_a_card(whole_run: Path, tmp_path: Path) -> None:
    size = publish(whole_run, tmp_path / "out", licence="apache-2.0")
    assert size == sum(
        file.stat().st_size for file in (tmp_path / "out").rglob("*") if file.name != "README.md" and file.is_file()
    )
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    head, body = card.removeprefix("---\n").split("---\n", 1)
    assert "license: apache-2.0\n" in head and "pipeline_tag: text-to-image\n" in head
    assert "## Training data" in body and "Nobody has measured any" in body and 'load("hf://OWNER/NAME")' in body
    assert load(tmp_path / "out").weights
    (tmp_path / "card.md").write_text("# Scores of mine\n", encoding="utf-8")
    publish(whole_run, tmp_path / "out", card=str(tmp_path / "card.md"), overwrite=True)
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "# Scores of mine" in card and "license:" not in card and "Nobody" not in card
    with pytest.raises(UserError, match=r"--card=none\.md: there is no such file"):
        publish(whole_run, tmp_path / "other", card="none.md")
    assert not (tmp_path / "other").exists()
