"""The samplers against those of Hugging Face diffusers: the same results from the same noise."""

from typing import Any

import numpy as np
import pytest

from ernie_vilg_jax.diffusion.samplers import make_sampler
from tests.diffusion.closed_forms import LINEAR, in_numpy, mixture, run

COMMON = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 2e-2, "beta_schedule": "linear"}
MULTISTEP = {"final_sigmas_type": "zero"}


@pytest.mark.filterwarnings("ignore:__array__ implementation")
@pytest.mark.parametrize("steps", [5, 10, 25])
@pytest.mark.parametrize(
    ("name", "options", "theirs", "settings"),
    [
        ("ddim", {}, "DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": True}),
        ("euler", {}, "EulerDiscreteScheduler", {}),
        ("heun", {}, "HeunDiscreteScheduler", {}),
        ("dpmpp_2m", {}, "DPMSolverMultistepScheduler", MULTISTEP),
        ("unipc", {}, "UniPCMultistepScheduler", MULTISTEP),
        ("unipc", {"order": 3}, "UniPCMultistepScheduler", {**MULTISTEP, "solver_order": 3}),
    ],
)
def test_same_ends(name: str, options: Any, theirs: str, settings: Any, steps: int) -> None:
    import diffusers
    import torch

    sampler = make_sampler(name, LINEAR, steps, grid="trailing", **options)
    scheduler = getattr(diffusers, theirs)(**COMMON, **settings, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    # Heun's schedule there lists a timestep for each prediction, and the first and last have one.
    timesteps = list(dict.fromkeys(scheduler.timesteps.round().int().tolist()))
    assert timesteps == sampler.timesteps.tolist()
    latents = np.random.default_rng(8).standard_normal((32, 8))
    denoise = in_numpy(mixture, LINEAR)
    # Some keep x / alpha instead of x, and say how to get back.
    scaled = "Euler" in theirs or "Heun" in theirs
    x = torch.tensor(latents / LINEAR.alphas[timesteps[0]] if scaled else latents)
    for t in scheduler.timesteps:
        seen = scheduler.scale_model_input(x, t)
        epsilon = torch.tensor(denoise(seen.numpy(), int(t.round())))
        x = scheduler.step(epsilon, t, x).prev_sample
    np.testing.assert_allclose(run(sampler, mixture, LINEAR, latents), x.numpy(), atol=1e-3)
