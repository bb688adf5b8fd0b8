"""EfficientNet-Lite0: an EfficientNet without squeeze and excitation (arXiv 1905.11946; 4.6M parameters).

Each convolution has a bias and includes the batch norm that follows it in the published file.
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
"""

import flax.linen as nn
import jax

SIZE = 224
"""Height and width of the images."""
GROUPS = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Blocks, kernel, stride of the first block, expansion, channels."""


class Block(nn.Module):
    """An inverted bottleneck: wider by `expansion`, a convolution of each channel alone, then `channels`."""

    kernel: int
    stride: int
    expansion: int
    channels: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y, wide = x, x.shape[-1] * self.expansion
        if self.expansion > 1:
            y = nn.relu6(nn.Conv(wide, (1, 1), name="expand")(y))
        sides, strides = (self.kernel, self.kernel), (self.stride, self.stride)
        y = nn.relu6(nn.Conv(wide, sides, strides, "SAME", feature_group_count=wide, name="depthwise")(y))
        y = nn.Conv(self.channels, (1, 1), name="project")(y)
        return x + y if self.stride == 1 and x.shape[-1] == self.channels else y


class EfficientNetLite0(nn.Module):
    """pixels [B, 224, 224, 3] fp32 in [0, 255] -> [B, 1280] fp32, the mean of the last convolution."""

    @nn.compact
    def __call__(self, pixels: jax.Array) -> jax.Array:
        x = nn.relu6(nn.Conv(32, (3, 3), (2, 2), "SAME", name="stem")((pixels - 127) / 128))
        number = 0
        for count, kernel, stride, expansion, channels in GROUPS:
            for i in range(count):
                x = Block(kernel, 1 if i else stride, expansion, channels, name=f"block_{number:02d}")(x)
                number += 1
        return nn.relu6(nn.Conv(1280, (1, 1), name="head")(x)).mean((1, 2))
