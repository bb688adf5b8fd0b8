"""The config of a fine-tuning, from the model's own and the flags."""

import dataclasses
import json
import subprocess
import sys
from typing import Any

import pytest
from etils import epath

from configs.demo import get_config
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.finetuning.origin import Origin
from ernie_vilg_jax.finetuning.settings import RATES, Settings, tuning_config


def origin(phase: str, **changes: Any) -> Origin:
    config = get_config(f"{phase},smoke")
    config.update_from_flattened_dict(changes)
    tokenizer: Any = None
    return Origin("demo", epath.Path("/model"), config, phase, "abc", tokenizer, None)


def test_the_model_and_what_it_was_are_kept() -> None:
    of = origin("experts", **{"knowledge.top_k": 3})
    config = tuning_config(of, Settings(), "data", {"folder": 0.5, "samples": 0.5})
    assert config.model == of.config.model and config.tokenizer == of.config.tokenizer and config.knowledge.top_k == 3
    assert config.phases.experts.init_from == "/model" and config.data.path == "data"
    assert dict(config.data.weights) == {"folder": 0.5, "samples": 0.5}
    assert config.phases.experts.steps == 480 and config.evaluation.every == 120 and config.train.keep_best == "score"
    assert of.config.data.path == "" and not of.config.lora.rank  # the model's own config is not changed


@pytest.mark.parametrize(
    ("steps", "every", "found"), [(480, 0, 120), (4000, 0, 120), (100, 0, 25), (2, 0, 1), (480, 7, 7)]
)
def test_it_is_judged_at_least_four_times(steps: int, every: int, found: int) -> None:
    config = tuning_config(origin("experts"), Settings(steps=steps, every=every), "data", {})
    assert config.evaluation.every == found


@pytest.mark.parametrize("phase", ["base", "experts"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_each_method_in_each_phase(method: str, phase: str) -> None:
    settings = Settings(method=method, rank=3) if method == "lora" else Settings(method=method)
    config = tuning_config(origin(phase), settings, "data", {})
    assert config.phase == phase
    assert config.lora.rank == (3 if method == "lora" else 0)
    assert config.phases[phase].learning_rate == RATES[method]
    assert config.experts.train_text_encoder == (method == "full")
    experts = 2 if phase == "experts" else 1
    assert config.phases[phase].batch_size % experts == 0 and config.phases[phase].batch_size >= 16


@pytest.mark.parametrize(("name", "full"), [("muon", "adamw"), ("adafactor", "adafactor"), ("adamw", "adamw")])
def test_steps_of_few_images_are_not_by_muon(name: str, full: str) -> None:
    of = origin("experts", **{"optimizer.name": name})
    assert tuning_config(of, Settings("lora"), "data", {}).optimizer.name == "adamw"
    assert tuning_config(of, Settings("full"), "data", {}).optimizer.name == full


def test_some_experts_share_the_batch() -> None:
    config = tuning_config(origin("experts"), Settings("lora", experts=(1,)), "data", {})
    assert config.experts.train == (1,) and config.phases.experts.batch_size == 32


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("method", "both", "--method=both"),
        ("steps", 0, "--steps=0"),
        ("batch_size", -4, "--batch_size=-4"),
        ("batch_size", 10**9, "--batch_size=1000000000 must be a whole number from 0 to 65536"),
        ("every", -1, "--every=-1"),
        ("seed", -1, "--seed=-1 must be a whole number from 0 to 2147483647"),
        ("seed", 2**40, "--seed=1099511627776"),
        ("rank", -1, "--rank=-1"),
        ("learning_rate", float("nan"), "--learning_rate=nan"),
        ("old_share", 1.0, "--old_share=1.0"),
        ("holdout", 0.0, "--holdout=0.0"),
    ],
)
def test_invalid_settings_name_their_flag(field: str, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Settings(**{field: value})


@pytest.mark.parametrize(
    ("method", "name", "value"),
    [
        ("full", "rank", 3),
        ("full", "targets", ("attn",)),
        ("full", "text_targets", ()),
        ("full", "experts", (0,)),
        ("lora", "text_encoder", False),
    ],
)
def test_settings_of_the_other_method_are_told(method: str, name: str, value: Any) -> None:
    other = {"full": "lora", "lora": "full"}[method]
    with pytest.raises(UserError, match=f"^--{name} is for --method={other}"):
        Settings(method=method, **{name: value})
    Settings(method=other, **{name: value})


def test_adapters_of_no_module_are_told() -> None:
    with pytest.raises(UserError, match=r"^--targets is empty"):
        Settings("lora", targets=())


def test_the_flags_have_the_defaults_of_the_settings() -> None:
    # In its own process: required flags would be demanded of every command that a test runs in this one.
    code = "import json, absl.flags as f, ernie_vilg_jax.finetune as _\n"
    code += "print(json.dumps({name: f.FLAGS[name].default for name in f.FLAGS}))"
    defaults = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    for field in dataclasses.fields(Settings):
        default = defaults[field.name]
        assert (tuple(default) if isinstance(default, list) else default) == field.default, field.name
