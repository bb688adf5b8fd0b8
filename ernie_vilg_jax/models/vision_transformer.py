"""A vision transformer (arXiv 2010.11929), as in CLIP (arXiv 2103.00020) and DINOv2 (arXiv 2304.07193).

pixels -> one vector a patch, after a learnt class vector -> + positions -> layers -> norm of the class vector
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ernie_vilg_jax.models.text_encoder import TransformerBlock


class VisionTransformer(nn.Module):
    """pixels [B, H, W, 3] fp32, normalised -> [B, width] fp32, the class vector after the last norm.

    Its `positions` [1 + patches, width] are those of one image size.

    `norm_in` normalises the patches, too, and `patch_bias` adds a bias to them: CLIP has the first, DINOv2 the second.
    `activation`, `mlp_width` and `layer_scale` are those of TransformerBlock.
    """

    patch_size: int
    width: int
    num_layers: int
    num_heads: int
    mlp_width: int
    activation: str
    norm_epsilon: float
    norm_in: bool = False
    patch_bias: bool = True
    layer_scale: bool = False

    @nn.compact
    def __call__(self, pixels: jax.Array) -> jax.Array:
        init, side = nn.initializers.normal(0.02), (self.patch_size, self.patch_size)
        patches = nn.Conv(self.width, side, side, "VALID", use_bias=self.patch_bias, name="patches")(pixels)
        patches = patches.reshape(len(pixels), -1, self.width)
        first = jnp.broadcast_to(self.param("first", init, (self.width,)), (len(pixels), 1, self.width))
        x = jnp.concatenate([first, patches], axis=1)
        x = x + self.param("positions", init, x.shape[1:])
        if self.norm_in:
            x = nn.LayerNorm(self.norm_epsilon, name="norm_in")(x)
        for i in range(self.num_layers):
            x = TransformerBlock(
                num_heads=self.num_heads,
                activation=self.activation,
                mlp_width=self.mlp_width,
                norm_epsilon=self.norm_epsilon,
                layer_scale=self.layer_scale,
                name=f"layer_{i:02d}",
            )(x)
        return nn.LayerNorm(self.norm_epsilon, name="norm_out")(x[:, 0])
