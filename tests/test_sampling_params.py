"""One declaration: the config, the flags, the API and the page follow it."""

import dataclasses
import itertools
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from absl import flags

from ernie_vilg_jax import sample, sampling_params
from ernie_vilg_jax.config import default_config
from ernie_vilg_jax.data.sizes import Size, Sizes
from ernie_vilg_jax.diffusion.samplers import GRIDS, SAMPLERS
from ernie_vilg_jax.diffusion.schedule import make_schedule
from ernie_vilg_jax.diffusion.stages import make_stages
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.pipeline import Pipeline
from ernie_vilg_jax.pipeline.request import Request, make_request
from ernie_vilg_jax.sampling_params import ACCEPTS, DEFAULTS, OF_SAMPLER, SamplingParams, make_params, parse


def test_names_are_those_of_the_registries() -> None:
    assert tuple(SAMPLERS) == sampling_params.SAMPLERS
    assert ("", *GRIDS) == sampling_params.GRIDS


def test_the_config_and_the_flags_have_every_field() -> None:
    assert sample.shared_flags.ACCEPTS is ACCEPTS, "its flags are defined"
    assert dict(default_config().sample) == dict(DEFAULTS)
    for name, accepts in ACCEPTS.items():
        flag = flags.FLAGS[name]
        assert flag.value is None, "what is not given is the checkpoint's"
        assert accepts.help in flag.help and all(choice in flag.help for choice in accepts.choices)


def test_help_teaches_the_values_and_the_defaults() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "ernie_vilg_jax.sample", "--help"], capture_output=True, text=True, check=False
    ).stdout
    text = " ".join(shown.split())
    assert "--eta " in text and "--variance " in text and "--order " in text
    assert f"One of {', '.join(SAMPLERS)}." in text
    assert "else 50)" in text


def test_the_default_is_the_papers() -> None:
    params = make_params({}, {})
    assert params == SamplingParams() and (params.sampler, params.steps, params.guidance_scale) == ("ddim", 50, 2.1)


def test_changes_count_before_settings_before_defaults() -> None:
    params = make_params({"steps": 20, "eta": 0.5}, {"steps": 30.0, "guidance_interval": [100, 900], "seed": None})
    assert (params.steps, params.eta, params.guidance_interval, params.seed) == (30, 0.5, (100, 900), 0)
    assert params.of_sampler == {"eta": 0.5}
    assert params.told() == {
        "seed": 0, "steps": 30, "sampler": "ddim", "eta": 0.5, "guidance_scale": 2.1, "guidance_interval": (100, 900),
    }  # fmt: skip


OTHER = {"eta": 0.5, "variance": "large", "order": 3}


def test_each_option_is_of_the_sampler_that_has_it() -> None:
    own = {name: {field.name for field in dataclasses.fields(made)} & set(OTHER) for name, made in SAMPLERS.items()}
    assert own == {name: {one for one, of in OF_SAMPLER.items() if of == name} for name in SAMPLERS}
    assert OF_SAMPLER.keys() == OTHER.keys()


@pytest.mark.parametrize("option", OTHER)
@pytest.mark.parametrize("chosen", SAMPLERS)
def test_a_checkpoints_options_do_not_hinder_another_sampler(option: str, chosen: str) -> None:
    """Its option counts for a sampler that has it; one that is given with a sampler that lacks it is refused."""

    def made(settings: dict[str, Any], **changes: Any) -> Request:
        return make_request(settings, schedule, stages, "a cat", changes, sizes=Sizes((Size(16, 16),), 8))

    schedule = make_schedule("linear", 100, 1e-3, 2e-1)
    stages = make_stages("uniform", 1, schedule)
    has = OF_SAMPLER[option] == chosen
    given = {"sampler": chosen, option: OTHER[option]}
    for own, changes in itertools.product(SAMPLERS, (given, {option: OTHER[option]})):
        request = made({"steps": 4, "sampler": own, option: OTHER[option]}, sampler=chosen)
        assert request.params.of_sampler == ({option: OTHER[option]} if has else {})
        assert getattr(request.sampler, option, OTHER[option]) == OTHER[option]
        before = {"steps": 4, "sampler": own if changes is given else chosen}
        if has:
            assert made(before, **changes).params.of_sampler == {option: OTHER[option]}
        else:
            with pytest.raises(UserError, match=f"sampler '{chosen}' has no option '{option}'"):
                made(before, **changes)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [("guidance_interval", ["100", "900"], (100, 900)), ("stage_scales", [], ()), ("eta", 0.5, 0.5)],
)
def test_flags_are_read(name: str, text: object, value: object) -> None:
    assert parse(name, text) == value  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eta": 2}, "eta=2 must be a number from 0 to 1"),
        ({"order": 4}, "order=4 must be a whole number from 1 to 3"),
        ({"variance": "tiny"}, "variance='tiny' must be one of small, large"),
        ({"sampler": "unipc", "eta": 0.5}, "sampler 'unipc' has no option 'eta'; it has order"),
    ],
)
def test_options_of_samplers_are_checked(pipe: Pipeline, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        pipe("一只猫", **changes)


@pytest.mark.parametrize(
    ("sampler", "option"), [("ddim", {"eta": 1.0}), ("ddpm", {"variance": "large"}), ("unipc", {"order": 1})]
)
def test_options_of_samplers_reach_them(pipe: Pipeline, sampler: str, option: dict) -> None:
    plain, changed = (pipe("一只猫", sampler=sampler, steps=4, **more)[0] for more in ({}, option))
    assert not np.array_equal(np.asarray(plain), np.asarray(changed))
    ((name, value),) = option.items()
    assert name not in plain.info and changed.info[name] == value
