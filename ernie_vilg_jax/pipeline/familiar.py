"""The names that callers of diffusers type: each works as one of ours, or raises one sentence that names ours."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ernie_vilg_jax.errors import UserError

OURS: Mapping[str, str] = {
    "num_inference_steps": "steps",
    "num_images_per_prompt": "num_images",
    "scheduler": "sampler",
    "mask_image": "mask",
}
"""Name in diffusers -> ours, with the same meaning."""

_TEXTS = "the text encoder reads prompt and negative_prompt; give texts"
_SIZE = "height and width are the size of the images"
REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        (
            *("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds"),
            *("prompt_2", "prompt_3", "negative_prompt_2", "negative_prompt_3", "prompt_attention_mask"),
        ),
        _TEXTS,
    ),
    **dict.fromkeys(("original_size", "target_size", "crops_coords_top_left", "resolution"), _SIZE),
    **dict.fromkeys(("timesteps", "sigmas"), "steps says how many timesteps are visited, and grid which"),
    **dict.fromkeys(("denoising_start", "denoising_end"), "strength says how many of the steps are run"),
    **dict.fromkeys(("callback", "callback_steps"), "on_step is called after each step"),
    **dict.fromkeys(
        ("cross_attention_kwargs", "attention_kwargs", "joint_attention_kwargs"),
        "pipe.attention_maps(prompt, word) records attention",
    ),
    **dict.fromkeys(
        ("ip_adapter_image", "ip_adapter_image_embeds", "control_image", "image_guidance_scale"),
        "image is the image to begin from, and strength how little of it is kept",
    ),
    **dict.fromkeys(("true_cfg_scale", "pag_scale"), "guidance_scale is the strength of guidance"),
    "latents": "the noise comes from seed; the same seed gives the same images",
    "callback_on_step_end_tensor_inputs": "latents stay in the program; on_step gets a Progress with images()",
    "clip_skip": "the text encoder's last layer is always used; there is no such option",
    "max_sequence_length": "the length of a prompt is the tokenizer's; there is no such option",
    "padding_mask_crop": "crop image and mask before the call",
    "use_karras_sigmas": "grid='karras' spaces the timesteps so",
}
"""Name in diffusers -> what to do here."""
ATTRIBUTES: Mapping[str, str] = {
    "to": "jax uses the accelerator that it finds; JAX_PLATFORMS=cpu and load(..., mesh=...) choose others",
    "scheduler": "each call chooses: pipe(..., sampler='dpmpp_2m', grid='karras')",
    "unet": "pipe.params.experts are the U-Nets' parameters, and pipe.model.unet the module",
    "vae": "pipe.params.autoencoder are its parameters, and pipe.model.autoencoder the module",
    "set_progress_bar_config": "on_step gets the progress of a call",
    "save_pretrained": "ernie_vilg_jax.pipeline.export writes a checkpoint",
}
"""Attribute of a pipeline in diffusers -> what to do here."""
PREFIXES: Mapping[str, str] = {
    "enable_": "load(..., mode='streamed') and mode='pipelined' are for models that do not fit",
    "disable_": "load(..., mode='resident') keeps all on the device",
}


def ours(options: Mapping[str, Any]) -> dict[str, Any]:
    """`options` under our names.

    Raises TypeError for a name of diffusers without a counterpart, and for a name given twice; UserError for a value.
    """
    found: dict[str, Any] = {}
    for name, value in options.items():
        if name in REFUSED:
            if value is None:
                continue
            raise TypeError(f"{name}: not an option here; {REFUSED[name]}")
        if name == "generator":
            if value is not None:
                _add(found, "seed", seed_of(value), name)
            continue
        if name == "scheduler":
            value, karras = _scheduler(value)
            if karras:
                _add(found, "grid", "karras", name)
        _add(found, OURS.get(name, name), value, name)
    return found


def _add(found: dict[str, Any], name: str, value: Any, said: str) -> None:
    if name in found:
        raise TypeError(f"{said}: {name} is given as well, and both mean the same; give one of them")
    found[name] = value


def seed_of(value: Any) -> int:
    """The seed of a torch.Generator, or of a list of one; a draw of a numpy.random.Generator; a number itself."""
    generator: Any = value[0] if isinstance(value, list | tuple) and len(value) == 1 else value
    if isinstance(generator, int | np.integer):
        return int(generator)
    if isinstance(generator, np.random.Generator):
        return int(generator.integers(2**32))
    if hasattr(generator, "initial_seed"):
        return int(generator.initial_seed())
    raise UserError(
        f"generator must be one torch.Generator, but is a {type(generator).__name__}; seed=7 does the same, and every "
        "image of a call has its own noise"
    )


def _scheduler(value: Any) -> tuple[Any, bool]:
    """The name of a scheduler, its class or an instance, and whether the instance spaces its steps as Karras et al."""
    if value is None or isinstance(value, str):
        return value, False
    if isinstance(value, type):
        return value.__name__, False
    return type(value).__name__, bool(getattr(getattr(value, "config", None), "use_karras_sigmas", False))


class _Tensors(dict[str, Any]):
    """The last argument of `callback_on_step_end`."""

    def __missing__(self, name: str) -> Any:
        raise UserError(
            f"callback_on_step_end: {name!r} is not there, for latents stay in the program; "
            "callback_kwargs['progress'].images() decodes a preview"
        )


def on_step(pipe: Any, callback: Callable[..., Any]) -> Callable[[Any], None]:
    """`callback_on_step_end(pipe, step, timestep, callback_kwargs)` as our `on_step`.

    callback_kwargs["progress"] is the `Progress`. Returned values are not used: UserError if there are any.
    """

    def call(progress: Any) -> None:
        returned = callback(pipe, progress.step - 1, progress.timestep, _Tensors(progress=progress))
        if returned and set(returned) - {"progress"}:
            raise UserError(
                f"callback_on_step_end returned {', '.join(map(str, returned))}: a step's results cannot be replaced"
            )

    return call


def attribute(name: str) -> AttributeError:
    """The error for an attribute that pipelines of ours do not have."""
    remedy = ATTRIBUTES.get(name) or next((text for start, text in PREFIXES.items() if name.startswith(start)), "")
    return AttributeError(f"a pipeline has no {name!r}" + (f"; {remedy}" if remedy else ""), name=name)
