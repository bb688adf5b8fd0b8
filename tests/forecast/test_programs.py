"""The table of programs: that it has all programs of a run, and their figures before compilation."""

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from configs.demo import get_config
from configs.paper import get_config as paper
from ernie_vilg_jax.chips import CHIPS
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.forecast import NAMES, SIZED
from ernie_vilg_jax.forecast.abstract import config_for
from ernie_vilg_jax.forecast.programs import PROGRAMS, build
from ernie_vilg_jax.forecast.report import Built
from ernie_vilg_jax.forecast.table import jobs_of
from ernie_vilg_jax.model import build_model
from ernie_vilg_jax.sharding.mesh import make_mesh
from ernie_vilg_jax.sharding.rules import local_bytes
from ernie_vilg_jax.training.flops import count_flops


def built(name: str, config: ConfigDict, batch: int = 0) -> Built:
    return build(name, config, make_mesh(config.mesh), batch)


def test_every_name_is_a_program_of_its_own() -> None:
    assert tuple(PROGRAMS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_program_is_built_from_one_config(name: str) -> None:
    config = get_config("smoke")
    config.mesh.expert, config.mesh.fsdp, config.mesh.data = 2, 2, 2
    program = built(name, config_for(name, config, 8, CHIPS["v5e"]))
    held = local_bytes(program.args)
    assert 0 < sum(local_bytes(tree) for tree in program.state.values()) <= held * (1 + 1e-6)
    on = {leaf.sharding.mesh.size for leaf in jax.tree.leaves(program.state) if leaf.sharding}
    assert on == {8}


@pytest.mark.proofs
def test_programs_of_images_are_there_for_each_size() -> None:
    config = get_config("smoke")
    config.data.sizes = ((16, 16), (16, 24), (24, 16))
    config.mesh.expert, config.mesh.fsdp, config.mesh.data = 2, 2, 2
    jobs = {job.name: job for job in jobs_of(config, "v5e:2x4", 8, CHIPS["v5e"], 0, "")}
    assert len(jobs) == len(NAMES) + 2 * len(SIZED)
    for name in SIZED:
        for height, width in config.data.sizes:
            program = built(name, jobs[f"{name}_{height}x{width}"].config)
            if name == "sampling" or name.endswith("preview"):
                with jax.set_mesh(program.mesh):
                    seen, unit = jax.eval_shape(program.jitted, *program.args).shape, 1
            else:
                batch = program.args[1] if isinstance(program.args[1], dict) else {"image": program.args[1]}
                seen, unit = (batch["image"].shape, 1) if "image" in batch else (batch["mean"].shape, 4)
            assert seen[1:3] == (height // unit, width // unit), name
            assert f"{height} x {width} pixels" in program.title
    config.data.sizes = ()
    assert [job.name for job in jobs_of(config, "v5e:2x4", 8, CHIPS["v5e"], 0, "")] == list(NAMES)


@pytest.mark.parametrize(
    ("phase", "cached"),
    [("autoencoder", "cache_latents"), ("base", "cache_latents"), ("base", "resident"), ("base", "")],
)
def test_training_is_the_step_of_the_phase_with_its_data(phase: str, cached: str) -> None:
    config = get_config(f"{phase},smoke")
    config.data.cache_latents, config.data.resident = cached == "cache_latents", cached == "resident"
    batch = built("training", config).args[1]
    assert ("image" in batch) != ("mean" in batch)
    assert ("mean" in batch) == (bool(cached) and phase != "autoencoder")


@pytest.mark.parametrize("remat", [True, False])
def test_recomputation_counts_as_executed_but_not_as_model_work(remat: bool) -> None:
    config = get_config("base,smoke")
    config.model.unet.remat = config.model.text_encoder.remat = remat
    program = built("base_step_encoded", config)
    assert program.flops is not None
    with jax.set_mesh(program.mesh):
        executed, of_model = program.lower()[1], program.flops()
    assert executed > 1.1 * of_model if remat else executed == of_model


def test_sampling_reads_its_prompts_once() -> None:
    """FLOPs are linear in the number of steps, and the intercept is the text encoder and the decoder."""
    config, flops = get_config("smoke"), {}
    for config.sample.steps in (4, 8):
        program = built("sampling", config, 8)
        assert program.flops is not None
        flops[config.sample.steps] = program.flops()
    model = build_model(config)
    text_encoder = model.abstract_text_encoder()
    words = [jax.ShapeDtypeStruct((9, config.tokenizer.max_length), t) for t in (jnp.int32, jnp.bool_)]
    latents = jax.ShapeDtypeStruct((8, *model.latent_shape), jnp.float32)
    once = count_flops(model.encode_text, text_encoder, *words)
    once += count_flops(model.decode, model.abstract_autoencoder(), latents)
    assert 2 * flops[4] - flops[8] == pytest.approx(once, rel=1e-9)
    assert flops[8] > 1.5 * flops[4]


def test_sampling_names_batches_that_divide_over_the_chips() -> None:
    with pytest.raises(UserError, match="--batch=3 must be a multiple of 8"):
        built("sampling", get_config("experts,smoke"), 3)


@pytest.mark.parametrize(
    ("program", "chip", "mesh"),
    [
        ("experts_step", "v6e", {"expert": 2, "data": 1, "fsdp": 128, "tensor": 1}),
        ("base_step", "v6e", {"expert": 1, "data": 2, "fsdp": 128, "tensor": 1}),
        ("autoencoder_step", "v6e", {"expert": 1, "data": 2, "fsdp": 128, "tensor": 1}),
        ("encoding", "v6e", {"expert": 1, "data": 256, "fsdp": 1, "tensor": 1}),
        ("base_save", "v6e", {"expert": 1, "data": 2, "fsdp": 128, "tensor": 1}),
        # Ten experts in bf16 are 45 GiB: half of a v5p, and more than a v6e.
        ("sampling", "v5p", {"expert": 1, "data": 256, "fsdp": 1, "tensor": 1}),
        ("sampling", "v6e", {"expert": 1, "data": 128, "fsdp": 1, "tensor": 2}),
    ],
)
def test_each_program_gets_a_mesh_that_it_can_run_on(program: str, chip: str, mesh: dict[str, int]) -> None:
    config = paper("experts")
    config.mesh = ConfigDict({"expert": 2, "data": 1, "fsdp": 128, "tensor": 1})
    assert config_for(program, config, 256, CHIPS[chip]).mesh.to_dict() == mesh


def test_a_mesh_that_takes_all_chips_still_does() -> None:
    config = get_config("smoke")
    config.mesh.expert = 2
    assert config_for("base_step", config, 8, CHIPS["v5e"]).mesh.to_dict()["data"] == -1
