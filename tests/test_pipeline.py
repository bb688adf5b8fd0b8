"""Loading a trained run and asking it for pictures."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from ernie_vilg_jax import pipeline
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.pipeline import Pipeline, export, load

PROMPTS = ["红色的圆形", "a blue square", "一个绿色的三角形"]


@pytest.fixture(scope="module")
def pipe(whole_run: Path) -> Pipeline:
    return load(whole_run)


def arrays(images: list) -> np.ndarray:
    return np.stack([np.asarray(image) for image in images])


def test_pictures_of_chinese_and_english_prompts(pipe: Pipeline) -> None:
    images = pipe(PROMPTS, num_images=2, steps=3, seed=5)
    assert len(images) == 6
    assert {(image.size, image.mode) for image in images} == {((16, 16), "RGB")}
    assert len({image.tobytes() for image in images}) == 6


def test_the_seed_decides_and_the_batch_does_not(pipe: Pipeline) -> None:
    together = arrays(pipe(PROMPTS, steps=3, seed=1)).astype(int)
    np.testing.assert_array_equal(together, arrays(pipe(PROMPTS, steps=3, seed=1)))
    alone = arrays(pipe(PROMPTS[0], steps=3, seed=1)).astype(int)
    # Another batch size is another program: the last bit of fp32 may differ, so may one level in 256.
    assert np.abs(alone[0] - together[0]).max() <= 1
    assert np.abs(together - arrays(pipe(PROMPTS, steps=3, seed=2))).max() > 1


def test_more_prompts_than_a_batch(pipe: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "BATCH_SIZES", (1, 2))
    several = arrays(pipe(PROMPTS, steps=2)).astype(int)
    monkeypatch.setattr(pipeline, "BATCH_SIZES", (4,))
    assert np.abs(several - arrays(pipe(PROMPTS, steps=2))).max() <= 1


def test_a_second_call_compiles_nothing(pipe: Pipeline) -> None:
    pipe(PROMPTS[0], steps=2, guidance_scale=2.0)
    compiled = {name: program._cache_size() for name, program in pipe._programs.items()}
    assert compiled and all(compiled.values()), "the first call must have compiled something, or this proves nothing"
    pipe(PROMPTS[1], steps=2, guidance_scale=5.0, seed=9)
    assert {name: program._cache_size() for name, program in pipe._programs.items()} == compiled


def test_guidance_moves_the_picture_and_1_is_the_conditional_model(pipe: Pipeline) -> None:
    plain = arrays(pipe(PROMPTS, steps=3, guidance_scale=1.0)).astype(int)
    nearly = arrays(pipe(PROMPTS, steps=3, guidance_scale=1.0 + 1e-6)).astype(int)
    assert np.abs(plain - nearly).max() <= 1
    assert np.abs(plain - arrays(pipe(PROMPTS, steps=3, guidance_scale=30.0))).max() > 0


def test_stage_1_samples_with_its_single_unet(whole_run: Path) -> None:
    single = load(whole_run / "stage1")
    assert single.stages.n == len(single.parts.experts) == 1
    assert len(single("红色的圆形", steps=2)) == 1


@pytest.mark.parametrize(
    ("mode", "mesh"),
    [
        ("streamed", None),
        ("streamed", {"fsdp": 2, "data": -1}),
        ("pipelined", {"expert": 2}),
        ("resident", {"data": 8}),
    ],
    ids=["streamed from disk", "streamed from a mesh", "pipelined", "resident on a mesh"],
)
def test_every_mode_makes_the_same_pictures(pipe: Pipeline, whole_run: Path, mode: str, mesh: dict | None) -> None:
    other = load(whole_run, mode=mode, mesh=mesh)
    expected = arrays(pipe(PROMPTS, steps=3, seed=1, guidance_scale=3.0)).astype(int)
    for _ in range(2):
        assert np.abs(arrays(other(PROMPTS, steps=3, seed=1, guidance_scale=3.0)) - expected).max() <= 1


def test_streamed_without_guidance(pipe: Pipeline, whole_run: Path) -> None:
    plain = arrays(pipe(PROMPTS[0], steps=2, guidance_scale=1.0)).astype(int)
    streamed = load(whole_run, mode="streamed")(PROMPTS[0], steps=2, guidance_scale=1.0)
    assert np.abs(arrays(streamed) - plain).max() <= 1


def test_streamed_reads_experts_only_when_it_samples(whole_run: Path, tmp_path: Path) -> None:
    shutil.copytree(whole_run / "stage2/checkpoints/8", tmp_path / "8")
    streamed = load(tmp_path / "8", mode="streamed")
    for file in (tmp_path / "8/expert_00").rglob("*"):
        if file.is_file() and file.stat().st_size > 2000:
            file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"cannot be read, it is damaged"):
        streamed("红色的圆形", steps=2)


@pytest.mark.parametrize(
    ("mode", "mesh", "message"),
    [
        ("magic", None, "--mode=magic is not one of resident, streamed, pipelined"),
        ("pipelined", None, "--mode=pipelined needs groups of devices .* use --mesh=expert=2"),
        ("streamed", {"data": 3}, r"^--mesh \(.*data=3.* needs 3 devices, but there are 8"),
        ("streamed", {"experts": 2}, "--mesh has no axis experts; its axes are expert, data, fsdp, tensor"),
    ],
)
def test_modes_and_meshes_that_do_not_fit(whole_run: Path, mode: str, mesh: dict | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(whole_run, mode=mode, mesh=mesh)


def test_export_is_small_and_samples_alike(pipe: Pipeline, whole_run: Path, tmp_path: Path) -> None:
    size = export(whole_run, tmp_path / "out")
    run_size = sum(f.stat().st_size for f in (whole_run / "stage2/checkpoints/8").rglob("*") if f.is_file())
    assert size < run_size / 2
    exported = load(tmp_path / "out")
    assert exported.tokenizer.encode(PROMPTS[0])[0].tolist() == pipe.tokenizer.encode(PROMPTS[0])[0].tolist()
    difference = np.abs(arrays(exported(PROMPTS, steps=3)).astype(int) - arrays(pipe(PROMPTS, steps=3)))
    assert difference.mean() < 3, "bf16 rounds to three digits"
    with pytest.raises(UserError, match="is not empty"):
        export(whole_run, tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompts": "  "}, "a prompt is empty"),
        ({"prompts": []}, "there is no prompt"),
        ({"prompts": "猫", "num_images": 0}, "num_images=0 must be at least 1"),
        ({"prompts": "猫", "steps": 0}, "step"),
        ({"prompts": "猫", "steps": 1001}, "1000"),
        ({"prompts": "猫", "guidance_scale": float("nan")}, "guidance_scale=nan"),
        ({"prompts": "猫", "sampler": "magic"}, "sampler='magic' is not one of"),
    ],
)
def test_impossible_requests_say_why(pipe: Pipeline, arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        pipe(**arguments)


def test_over_long_prompt_is_cut_with_a_warning_that_says_where(
    pipe: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert len(pipe("红色的圆形" * 20 + "尾巴", steps=2)) == 1
    assert "longer than 16 tokens; the model does not see" in caplog.text
    assert "尾巴" in caplog.text


def test_missing_and_foreign_checkpoints(whole_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no checkpoint"):
        load(tmp_path)
    shutil.copytree(whole_run / "stage2/checkpoints/8", tmp_path / "8")
    shutil.rmtree(tmp_path / "8/expert_01")
    with pytest.raises(UserError, match="has no expert_01: sampling needs the expert of every stage"):
        load(tmp_path / "8")


def test_damaged_checkpoint(whole_run: Path, tmp_path: Path) -> None:
    shutil.copytree(whole_run / "stage2/checkpoints/8", tmp_path / "8")
    for file in (tmp_path / "8/expert_00").rglob("*"):
        if file.is_file() and file.stat().st_size > 2000:
            file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"cannot be read, it is damaged"):
        load(tmp_path / "8")
