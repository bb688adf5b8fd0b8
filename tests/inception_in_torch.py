"""FID's InceptionV3 once more, in plain PyTorch functions: the reference of ours where torch-fidelity is not installed.

The architecture is that of "Rethinking the Inception Architecture" with the peculiarities of TensorFlow's 2015 graph:
average pooling that does not count the padding, max pooling in the last block, no classifier of auxiliary logits.
"""

from collections.abc import Callable
from functools import partial
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]
Conv = Callable[..., Tensor]


def features(images: Tensor, state: State) -> Tensor:
    """[B, 2048] of images uint8 [B, 3, 299, 299]; weights that `state` lacks are drawn into it."""
    conv = partial(_conv, state, torch.Generator().manual_seed(0))
    x = (images.float() - 128) / 128
    x = conv("Conv2d_1a_3x3", x, 32, 3, stride=2)
    x = conv("Conv2d_2a_3x3", x, 32, 3)
    x = conv("Conv2d_2b_3x3", x, 64, 3, padding=1)
    x = F.max_pool2d(x, 3, 2)
    x = conv("Conv2d_3b_1x1", x, 80, 1)
    x = conv("Conv2d_4a_3x3", x, 192, 3)
    x = F.max_pool2d(x, 3, 2)
    for name, pooled in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
        x = _a(partial(_inside, conv, name), x, pooled)
    x = _b(partial(_inside, conv, "Mixed_6a"), x)
    for name, width in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
        x = _c(partial(_inside, conv, name), x, width)
    x = _d(partial(_inside, conv, "Mixed_7a"), x)
    x = _e(partial(_inside, conv, "Mixed_7b"), x, F.avg_pool2d(x, 3, 1, 1, count_include_pad=False))
    x = _e(partial(_inside, conv, "Mixed_7c"), x, F.max_pool2d(x, 3, 1, 1))
    state.setdefault("fc.weight", torch.zeros(1008, 2048))
    state.setdefault("fc.bias", torch.zeros(1008))
    return x.mean((2, 3))


def _inside(conv: Conv, block: str, name: str, *args: object, **options: object) -> Tensor:
    return conv(f"{block}.{name}", *args, **options)


def _conv(
    state: State,
    generator: torch.Generator,
    name: str,
    x: Tensor,
    width: int,
    kernel: int | tuple[int, int],
    stride: int = 1,
    padding: int | tuple[int, int] = 0,
) -> Tensor:
    """Convolution, normalisation by fixed moments, ReLU."""
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    if f"{name}.conv.weight" not in state:
        fan = x.shape[1] * prod(sides)
        state[f"{name}.conv.weight"] = torch.randn(width, x.shape[1], *sides, generator=generator) * (2 / fan) ** 0.5
        ranges = {"weight": (0.8, 1.6), "bias": (-0.3, 0.3), "running_mean": (-0.2, 0.2), "running_var": (0.5, 1.5)}
        for part, (low, high) in ranges.items():
            state[f"{name}.bn.{part}"] = low + (high - low) * torch.rand(width, generator=generator)
    x = F.conv2d(x, state[f"{name}.conv.weight"], stride=stride, padding=padding)
    mean, variance, scale, bias = (
        state[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return F.relu(F.batch_norm(x, mean, variance, scale, bias, eps=1e-3))


def _a(conv: Conv, x: Tensor, pooled: int) -> Tensor:
    one = conv("branch1x1", x, 64, 1)
    five = conv("branch5x5_2", conv("branch5x5_1", x, 48, 1), 64, 5, padding=2)
    three = conv("branch3x3dbl_2", conv("branch3x3dbl_1", x, 64, 1), 96, 3, padding=1)
    three = conv("branch3x3dbl_3", three, 96, 3, padding=1)
    pool = conv("branch_pool", F.avg_pool2d(x, 3, 1, 1, count_include_pad=False), pooled, 1)
    return torch.cat([one, five, three, pool], 1)


def _b(conv: Conv, x: Tensor) -> Tensor:
    three = conv("branch3x3", x, 384, 3, stride=2)
    double = conv("branch3x3dbl_2", conv("branch3x3dbl_1", x, 64, 1), 96, 3, padding=1)
    return torch.cat([three, conv("branch3x3dbl_3", double, 96, 3, stride=2), F.max_pool2d(x, 3, 2)], 1)


def _c(conv: Conv, x: Tensor, width: int) -> Tensor:
    across, down = {"kernel": (1, 7), "padding": (0, 3)}, {"kernel": (7, 1), "padding": (3, 0)}
    one = conv("branch1x1", x, 192, 1)
    seven = conv("branch7x7_2", conv("branch7x7_1", x, width, 1), width, **across)
    seven = conv("branch7x7_3", seven, 192, **down)
    double = conv("branch7x7dbl_2", conv("branch7x7dbl_1", x, width, 1), width, **down)
    double = conv("branch7x7dbl_4", conv("branch7x7dbl_3", double, width, **across), width, **down)
    double = conv("branch7x7dbl_5", double, 192, **across)
    pool = conv("branch_pool", F.avg_pool2d(x, 3, 1, 1, count_include_pad=False), 192, 1)
    return torch.cat([one, seven, double, pool], 1)


def _d(conv: Conv, x: Tensor) -> Tensor:
    three = conv("branch3x3_2", conv("branch3x3_1", x, 192, 1), 320, 3, stride=2)
    seven = conv("branch7x7x3_2", conv("branch7x7x3_1", x, 192, 1), 192, (1, 7), padding=(0, 3))
    seven = conv("branch7x7x3_3", seven, 192, (7, 1), padding=(3, 0))
    return torch.cat([three, conv("branch7x7x3_4", seven, 192, 3, stride=2), F.max_pool2d(x, 3, 2)], 1)


def _e(conv: Conv, x: Tensor, pooled: Tensor) -> Tensor:
    across, down = {"kernel": (1, 3), "padding": (0, 1)}, {"kernel": (3, 1), "padding": (1, 0)}
    one, three = conv("branch1x1", x, 320, 1), conv("branch3x3_1", x, 384, 1)
    double = conv("branch3x3dbl_2", conv("branch3x3dbl_1", x, 448, 1), 384, 3, padding=1)
    parts = [one, conv("branch3x3_2a", three, 384, **across), conv("branch3x3_2b", three, 384, **down)]
    parts += [conv("branch3x3dbl_3a", double, 384, **across), conv("branch3x3dbl_3b", double, 384, **down)]
    return torch.cat([*parts, conv("branch_pool", pooled, 192, 1)], 1)
