"""An untrained model for sampling: random weights throughout, so that every input matters."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.demo import get_config
from ernie_vilg_jax import checkpointing
from ernie_vilg_jax.data.files import digest
from ernie_vilg_jax.data.tokenizers import train_sentencepiece
from ernie_vilg_jax.interop import lora as lora_files
from ernie_vilg_jax.model import ModelParams, build_model
from ernie_vilg_jax.models import lora
from ernie_vilg_jax.pipeline import Pipeline
from ernie_vilg_jax.sampling import generator
from ernie_vilg_jax.sampling.modes import make_executor
from ernie_vilg_jax.sampling.pipelined import stack_experts
from ernie_vilg_jax.sharding.mesh import make_mesh
from tests import programs

ADAPTED = {"expert_00": ("attn",), "expert_01": ("attn",), "text_encoder": ("qkv",)}
"""Item of `adapters` -> its targets."""
PROMPTS = ["红色的圆形", "a blue square", "一个绿色的三角形"]


def filled(shapes: Any, seed: int, scale: float) -> Any:
    """Random weights: an initialised network ends in zeros, and would ignore its prompt."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: (scale * rng.standard_normal(leaf.shape)).astype(np.float32), shapes)


def make_pipe(
    mode: str = "resident", sizes: tuple[tuple[int, int], ...] = (), attention: tuple[int, ...] = (), **axes: int
) -> Pipeline:
    """With `axes` on a mesh of that many devices. `sizes` as in `config.data`; () is 16 x 16.

    `attention` as in `config.model.unet.attention_downsamplings`; the middle has it always.
    """
    mesh = make_mesh({"data": 1, **axes}, jax.devices()[: int(np.prod(list(axes.values())))]) if axes else None
    config = get_config("smoke")
    config.sample.steps = 3
    config.model.unet.attention_downsamplings = attention
    config.data.sizes = sizes
    model = build_model(config)
    channels = model.autoencoder.latent_channels
    place = {"mean": np.full(channels, 0.1, np.float32), "std": np.full(channels, 0.5, np.float32)}
    params = ModelParams(
        {"params": filled(model.abstract_autoencoder()["params"], 1, 0.2), **place},
        filled(model.abstract_text_encoder(), 2, 1.0),
        tuple(filled(model.abstract_unet(), 3 + stage, 0.4) for stage in range(model.stages.n)),
    )
    if mode == "pipelined":
        assert mesh is not None
        params = params._replace(experts=stack_experts(params.experts, mesh))
    tokenizer = train_sentencepiece(PROMPTS, config.tokenizer.vocab_size, config.tokenizer.max_length)
    return Pipeline(config, model, model.stages, params, tokenizer, mode=mode, mesh=mesh)


@pytest.fixture(scope="session")
def pipe() -> Pipeline:
    return make_pipe()


def trained(**changes: Any) -> ConfigDict:
    """The config of a training of experts, with some fields changed."""
    config = get_config("experts,smoke")
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="session")
def bank(tmp_path_factory: pytest.TempPathFactory, pipe: Pipeline) -> Path:
    """The two experts of `pipe`, as training saves them."""
    path = tmp_path_factory.mktemp("bank") / "8"
    items = {"autoencoder": pipe.params.autoencoder, "text_encoder": {"ema": pipe.params.text_encoder}}
    items |= {f"expert_{k:02d}": {"ema": expert} for k, expert in enumerate(pipe.params.experts)}
    items["tokenizer"] = checkpointing.pack_tokenizer(pipe.tokenizer)
    config = trained(**{"tokenizer.vocab_size": pipe.config.tokenizer.vocab_size})
    checkpointing.save_once(path, items, checkpointing.make_metadata(config, phase="experts"))
    return path


@pytest.fixture(scope="session")
def adapters(tmp_path_factory: pytest.TempPathFactory, bank: Path, pipe: Pipeline) -> Path:
    """A checkpoint of a run that trained adapters of them, times 3 / 2."""
    path = tmp_path_factory.mktemp("adapters") / "4"
    shapes = lora_files.network_shapes(pipe.model)
    items: dict[str, Any] = {}
    for seed, (item, targets) in enumerate(ADAPTED.items()):
        of = shapes[item if item == "text_encoder" else "unet"]
        tree = jax.eval_shape(lambda of=of, targets=targets: lora.init(jax.random.key(0), of, targets, 2))
        items[item] = {"ema": filled(tree, seed, 0.3)}
    items["tokenizer"] = checkpointing.pack_tokenizer(pipe.tokenizer)
    changes = {"lora.rank": 2, "lora.alpha": 3.0, "lora.targets": ("attn",), "lora.text_targets": ("qkv",)}
    config = trained(**changes, **{"phases.experts.init_from": str(bank)})
    config.tokenizer.vocab_size = pipe.config.tokenizer.vocab_size
    about = {"phase": "experts", "base": digest(checkpointing.read_metadata(checkpointing.find(bank)))}
    checkpointing.save_once(path, items, checkpointing.make_metadata(config, **about))
    return path


@pytest.fixture(scope="session")
def streamed() -> Pipeline:
    return make_pipe("streamed")


@pytest.fixture(autouse=True, scope="session")
def _shared_programs() -> Iterator[None]:
    """Pipelines of equal models share their programs within a process: tracing and compiling them is most of a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generator, "make_executor", programs.make_executor)
        yield


@pytest.fixture
def own_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that count what is compiled."""
    monkeypatch.setattr(generator, "make_executor", make_executor)


@pytest.fixture(scope="session")
def compiled() -> Callable[[], Any]:
    """`with compiled() as programs:` records the name of every program that jax compiles, from any source."""

    @contextmanager
    def count() -> Iterator[list[str]]:
        names: list[str] = []

        def note(event: str, duration_secs: float, **of: str | int) -> None:
            if event == "/jax/core/compile/backend_compile_duration":
                names.append(str(of.get("fun_name", "?")))

        jax.monitoring.register_event_duration_secs_listener(note)
        try:
            yield names
        finally:
            jax.monitoring.unregister_event_duration_listener(note)

    return count
