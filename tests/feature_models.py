"""Feature networks with random weights in their published formats, and the PyTorch modules that wrote them."""

import contextlib
import importlib
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import transformers

torch.set_num_threads(1)  # more threads only wait for each other in such small models
SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
}  # fmt: skip
VISION = {**SIZES, "image_size": 28, "patch_size": 7}
END, START = 98, 97
"""Tokens of CLIP."""


def images(*sizes: tuple[int, int], seed: int = 0) -> list[np.ndarray]:
    """Blurred noise of the given heights and widths."""
    rng = np.random.default_rng(seed)
    small = [rng.integers(0, 256, (1 + h // 4, 1 + w // 4, 3), np.uint8) for h, w in sizes]
    return [np.kron(noise, np.ones((4, 4, 1), np.uint8))[:h, :w] for noise, (h, w) in zip(small, sizes, strict=True)]


def randomised(module: Any) -> Any:
    """The module with weights under which every part of it matters; fresh ones hardly change their inputs."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            is_scale = parameter.ndim == 1 and not name.endswith("bias")
            parameter.normal_(0, 0.3, generator=generator).add_(1.0 if is_scale else 0.0)
    return module.eval()


def clip(folder: Path, activation: str = "quick_gelu", **text: Any) -> Any:
    """A CLIPModel with its tokenizer (letters) and image processor."""
    words = {**SIZES, "hidden_act": activation, "vocab_size": 99, "max_position_embeddings": 9}
    words |= {"eos_token_id": END, "bos_token_id": START, "pad_token_id": END, **text}
    vision = {**VISION, "hidden_act": activation}
    config = transformers.CLIPConfig(text_config=words, vision_config=vision, projection_dim=16)
    model = randomised(transformers.CLIPModel(config))
    model.save_pretrained(folder)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = [*letters, *(f"{letter}</w>" for letter in letters)]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    vocabulary |= {"<|startoftext|>": START, "<|endoftext|>": END}
    transformers.CLIPTokenizer(vocabulary, merges=[]).save_pretrained(folder)
    crop = {"height": 28, "width": 28}
    transformers.CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=crop).save_pretrained(folder)
    return model


def chinese_clip(folder: Path) -> Any:
    """A ChineseCLIPModel with vocab.txt and image processor, like those that are published."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"一只红色的猫和蓝狗在左边"]
    config = transformers.ChineseCLIPConfig(
        text_config={**SIZES, "vocab_size": len(tokens), "max_position_embeddings": 60},
        vision_config=VISION,
        projection_dim=16,
    )
    model = randomised(transformers.ChineseCLIPModel(config))
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    side = {"height": 28, "width": 28}
    transformers.ChineseCLIPImageProcessorPil(size=side, crop_size=side).save_pretrained(folder)
    return model


def dino(folder: Path, **options: Any) -> Any:
    """A Dinov2Model of images of 35 pixels, with the published image processor's crop."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 35, "patch_size": 7}
    model = randomised(transformers.Dinov2Model(transformers.Dinov2Config(**{**sizes, **options})))
    model.save_pretrained(folder)
    transformers.BitImageProcessorPil(
        size={"shortest_edge": 32},
        crop_size={"height": 28, "width": 28},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    ).save_pretrained(folder)
    return model


def change_config(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


PARTS = ("", ".datasets", ".models", ".transforms", ".transforms.functional")
"""Of torchvision, that torch-fidelity imports."""


def torch_fidelity(module: str) -> Any:
    """A module of torch-fidelity, without torchvision: only its data sets need it, and a build for another torch breaks
    `transformers`. So torch-fidelity is installed with --no-deps; without it the test is skipped."""
    if importlib.util.find_spec("torch_fidelity") is None:
        pytest.skip("needs torch-fidelity: pip install --no-deps torch-fidelity")
    absent = {f"torchvision{part}": mock.MagicMock() for part in PARTS}
    with mock.patch.dict(sys.modules):  # what it imports goes again, so that nothing else finds these
        sys.modules.update(absent)
        return importlib.import_module(f"torch_fidelity.{module}")


def inception() -> Any:
    """torch-fidelity's FeatureExtractorInceptionV3, without its weights."""

    class Fresh(torch_fidelity("feature_extractor_inceptionv3").FeatureExtractorInceptionV3):
        def load_state_dict(self, *args: Any, **options: Any) -> None:
            """Nothing is loaded: `torch.load` finds an empty file."""

    with _nothing_to_load():
        network = Fresh("inception", ["2048"], feature_extractor_weights_path="")
    return network


@contextlib.contextmanager
def _nothing_to_load() -> Iterator[None]:
    load = torch.load
    torch.load = lambda *args, **options: {}
    try:
        yield
    finally:
        torch.load = load
