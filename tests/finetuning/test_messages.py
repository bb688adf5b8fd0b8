"""Errors of the libraries behind `finetune` name its flags."""

import dataclasses
import re
from typing import Any

import pytest
from etils import epath
from jax.errors import JaxRuntimeError

from configs.demo import get_config
from ernie_vilg_jax.config import as_json, flat
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.finetuning.check import check_training
from ernie_vilg_jax.finetuning.messages import as_flags, naming_flags
from ernie_vilg_jax.finetuning.origin import Origin
from ernie_vilg_jax.finetuning.settings import Settings, tuning_config
from ernie_vilg_jax.training.loop import NonFinite

CHANGED: dict[str, Any] = {
    **{"steps": 7, "batch_size": 12, "learning_rate": 1e-5, "rank": 3, "targets": ("qkv",), "text_targets": ("mlp",)},
    **{"experts": (1,), "text_encoder": False, "every": 3, "knowledge": True, "seed": 4},
}
ELSEWHERE = {"method", "old_share", "holdout"}
"""Settings that are not one value of this config: how others are set, shares of sources, and how data are prepared."""


def origin(phase: str = "experts") -> Origin:
    tokenizer: Any = None
    return Origin("demo", epath.Path("/model"), get_config(f"{phase},smoke"), phase, "abc", tokenizer, None)


def test_every_setting_is_looked_at() -> None:
    assert CHANGED.keys() | ELSEWHERE == {field.name for field in dataclasses.fields(Settings)}


@pytest.mark.parametrize("name", CHANGED)
@pytest.mark.parametrize("phase", ["base", "experts"])
def test_a_field_of_the_config_is_told_as_the_flag_that_decides_it(name: str, phase: str) -> None:
    method = "full" if name == "text_encoder" else "lora"
    before = Settings(method=method, every=5)  # 0 is a share of the steps
    after = dataclasses.replace(before, **{name: CHANGED[name]})
    one, other = (flat(as_json(tuning_config(origin(phase), settings, "", {}))) for settings in (before, after))
    fields = [field for field in one if one[field] != other[field]]
    assert fields
    for field in fields:
        assert as_flags(f"--config.{field}=1 is wrong") == f"--{name}=1 is wrong"


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("--config.phases.base.batch_size=2 must be a multiple", "--batch_size=2 must be a multiple"),
        ("--config.experts.train=(7,) must", "--experts=7 must"),
        ("--config.experts.train=(0, 0) must", "--experts=0,0 must"),
        ("--config.phases.experts.init_from=demo is of", "--from=demo is of"),
        ("raise config.data.holdout_fraction.", "raise --holdout."),
        ("lower --config.data.smallest_side", "lower the model's config.data.smallest_side"),
        ("Use those, or another --workdir, or go on with --allow_changes=lora,seed", "Use those, or another --output"),
        ("--workdir=x is in use", "--output=x is in use"),
        ("/a/config.json is missing", "/a/config.json is missing"),
        ("--rank=0 must be", "--rank=0 must be"),
    ],
)
def test_each_form_of_a_message(message: str, told: str) -> None:
    assert as_flags(message) == told


def test_a_lower_rate_is_another_folder() -> None:
    told = r"^the loss is not finite\. Lower --learning_rate, and give another --output$"
    with pytest.raises(NonFinite, match=told), naming_flags():
        raise NonFinite(
            "the loss is not finite. Lower --config.phases.base.learning_rate, then run the same command again"
        )


def test_a_batch_that_does_not_fit_is_told() -> None:
    with pytest.raises(UserError, match=r"^--batch_size=64 takes more memory than a device has"), naming_flags(64):
        raise JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.")
    with pytest.raises(JaxRuntimeError), naming_flags(64):
        raise JaxRuntimeError("INTERNAL: something else")


@pytest.mark.parametrize(
    ("given", "phase", "message"),
    [
        ({"batch_size": 2}, "experts", r"^--batch_size=2 must be a multiple of 16 \(2 parts over data=8"),
        ({"batch_size": 4}, "base", r"^--batch_size=4 must be a multiple of 8"),
        ({"experts": (7,)}, "experts", r"^--experts=7 must name different stages in \[0, 2\)"),
        ({"experts": (0, 0)}, "experts", "^--experts=0,0 must name different stages"),
        ({"experts": (0,)}, "base", "^--experts: --from=demo is a base, which has one U-Net"),
        ({"targets": ("(",)}, "experts", r"^--targets: '\(' is not a regular expression"),
        ({"targets": ("attic",)}, "experts", "^--targets: 'attic' is in the name of no module"),
        ({"text_targets": ("attic",)}, "experts", "^--text_targets: 'attic' is in the name of no module"),
        ({"rank": 4096}, "experts", r"^--rank=4096: adapters would have \d+.\dM parameters, more than"),
    ],
)
def test_what_the_training_would_refuse_is_told_first(given: dict[str, Any], phase: str, message: str) -> None:
    method = "full" if set(given) == {"batch_size"} else "lora"
    with pytest.raises(UserError, match=message) as caught:
        check_training(origin(phase), Settings(method=method, **given))
    assert not re.search(r"config\.|\n", str(caught.value))


@pytest.mark.parametrize(("method", "phase"), [("full", "experts"), ("lora", "base")])
def test_the_defaults_pass(method: str, phase: str) -> None:
    check_training(origin(phase), Settings(method=method))
