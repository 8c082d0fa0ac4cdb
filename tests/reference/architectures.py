"""The families of timm, each at the smallest that its constructor takes, with random weights.

What a row states was read off timm's model definitions by hand, not off the code under test: how many leading tokens
are no patches, and which layers end the stages.
"""

import functools
from dataclasses import dataclass, field
from typing import Any

import timm
import torch
from torch import nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A timm model to be built small.

    Attributes:
        model: timm's name.
        options: for `timm.create_model`.
        size: pixels along a side of its images.
        prefix: leading tokens that are no patches, where its layers return tokens.
        layers: the teacher's layers that pair with a student of four stages.
    """

    model: str
    layers: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)
    size: int = 64
    prefix: int = 0


def stages(*depths: int, of: str = "stages") -> tuple[str, ...]:
    return tuple(f"{of}.{depth}" for depth in depths)


FOUR = stages(0, 1, 2, 3)
SMALL_VIT = {"img_size": 64, "embed_dim": 48, "depth": 6, "num_heads": 2}
VIT_BLOCKS = stages(0, 1, 2, 4, of="blocks")  # the last block's patches are not heard behind a class token
POOLED_BLOCKS = stages(0, 2, 3, 5, of="blocks")

ARCHITECTURES = {
    each.model: each
    for each in (
        Architecture(model="deit_tiny_patch16_224", options=SMALL_VIT, prefix=1, layers=VIT_BLOCKS),
        Architecture(model="deit_tiny_distilled_patch16_224", options=SMALL_VIT, prefix=2, layers=VIT_BLOCKS),
        Architecture(model="vit_little_patch16_reg4_gap_256", options=SMALL_VIT, prefix=4, layers=POOLED_BLOCKS),
        Architecture(
            model="vit_small_patch14_reg4_dinov2",
            options=SMALL_VIT | {"img_size": 56},
            size=56,
            prefix=5,
            layers=VIT_BLOCKS,
        ),
        Architecture(model="vit_small_patch16_dinov3", options=SMALL_VIT, prefix=5, layers=POOLED_BLOCKS),
        Architecture(
            model="eva02_tiny_patch14_224",
            options=SMALL_VIT | {"img_size": 56},
            size=56,
            prefix=1,
            layers=POOLED_BLOCKS,
        ),
        Architecture(model="beit_base_patch16_224", options=SMALL_VIT, prefix=1, layers=POOLED_BLOCKS),
        Architecture(model="cait_xxs24_224", options=SMALL_VIT, layers=POOLED_BLOCKS),
        Architecture(model="xcit_nano_12_p16_224", options=SMALL_VIT, layers=POOLED_BLOCKS),
        Architecture(model="vit_tiny_r_s16_p8_224", options=SMALL_VIT, prefix=1, layers=VIT_BLOCKS),
        Architecture(
            model="vit_small_r26_s32_224",
            options=SMALL_VIT,
            prefix=1,
            layers=(*stages(0, 1, 2, of="patch_embed.backbone.stages"), "blocks.4"),
        ),
        Architecture(model="efficientformer_l1", size=224, layers=FOUR),
        Architecture(
            model="swin_tiny_patch4_window7_224",
            options={"img_size": 64, "embed_dim": 24, "depths": (1, 1, 2, 1), "num_heads": (1, 2, 2, 4)},
            layers=stages(0, 1, 2, 3, of="layers"),
        ),
        Architecture(
            model="swinv2_tiny_window8_256",
            options={"img_size": 64, "embed_dim": 24, "depths": (1, 1, 2, 1), "num_heads": (1, 2, 2, 4)},
            layers=stages(0, 1, 2, 3, of="layers"),
        ),
        Architecture(model="convnext_atto", layers=FOUR),
        Architecture(model="efficientnet_lite0", layers=stages(1, 2, 4, 6, of="blocks")),
        Architecture(model="mobilenetv3_small_050", layers=stages(0, 1, 3, 5, of="blocks")),
        Architecture(model="mobilenetv4_conv_small_035", layers=stages(0, 1, 2, 4, of="blocks")),
        Architecture(model="efficientformerv2_s0", options={"img_size": 64}, layers=FOUR),
        Architecture(model="fastvit_t8", layers=FOUR),
        Architecture(model="tiny_vit_5m_224", layers=FOUR),
        Architecture(model="maxvit_rmlp_pico_rw_256", options={"img_size": 64, "depths": (1, 1, 1, 1)}, layers=FOUR),
        Architecture(model="coatnet_pico_rw_224", options={"img_size": 64, "depths": (1, 1, 1, 1)}, layers=FOUR),
        Architecture(model="mobilevit_xxs", layers=(*stages(1, 2, 3), "final_conv")),
        Architecture(model="levit_128s", options={"img_size": 64}, layers=stages(0, 1, 2)),
        Architecture(model="poolformer_s12", layers=FOUR),
        Architecture(model="regnetx_002", layers=("s1", "s2", "s3", "s4")),
        Architecture(model="repvgg_a0", layers=(*stages(0, 1, 2), "final_conv")),
        Architecture(
            model="densenet121",
            options={"growth_rate": 8, "block_config": (2, 2, 2, 2)},
            layers=("features.denseblock1", "features.denseblock2", "features.denseblock3", "features.norm5"),
        ),
        Architecture(model="ghostnet_050", layers=stages(1, 3, 5, 7, of="blocks")),
        Architecture(model="edgenext_xx_small", layers=FOUR),
        Architecture(
            model="hiera_tiny_224",
            options={"img_size": 64, "embed_dim": 24, "head_init_scale": 1.0, "weight_init": "skip"},
            layers=stages(0, 2, 9, 11, of="blocks"),
        ),
        Architecture(model="pvt_v2_b0", layers=FOUR),
        Architecture(
            model="samvit_base_patch16", options=SMALL_VIT | {"global_attn_indexes": (2, 5)}, layers=POOLED_BLOCKS
        ),
        Architecture(
            model="tnt_s_legacy_patch16_224",
            options={"img_size": 64, "embed_dim": 48, "depth": 6, "num_heads_outer": 2},
            prefix=1,
            layers=VIT_BLOCKS,
        ),
        Architecture(
            model="twins_svt_small",
            options={"img_size": 64, "embed_dims": (16, 32, 64, 128), "depths": (2, 2, 2, 2)},
            layers=tuple(f"blocks.{stage}.1" for stage in range(4)),
        ),
        Architecture(
            model="coat_lite_tiny",
            options={"img_size": 64},
            prefix=1,
            layers=("serial_blocks1.1", "serial_blocks2.1", "serial_blocks3.1"),
        ),
        Architecture(model="pit_ti_224", options={"img_size": 64}, prefix=0, layers=stages(0, 1, of="transformers")),
    )
}

SLOW_ARCHITECTURES = {
    each.model: each
    for each in (
        Architecture(model="volo_d1_224", options={"img_size": 64}, layers=stages(0, 2, 3, 4, of="network")),
        Architecture(model="mvitv2_tiny", options={"img_size": 64}, layers=FOUR),
        Architecture(model="mobilenetv4_hybrid_medium", layers=stages(0, 1, 2, 4, of="blocks")),
        Architecture(model="hrnet_w18_small", layers=tuple(f"incre_modules.{stage}" for stage in range(4))),
        Architecture(model="tresnet_m", layers=tuple(f"body.layer{stage}" for stage in range(1, 5))),
        Architecture(
            model="crossvit_9_240", options={"img_size": 240}, size=240, prefix=1, layers=("blocks.0", "blocks.1")
        ),
    )
}


@functools.cache
def architecture(name: str) -> nn.Module:
    """Build one of them with fixed random weights, for ten classes, in evaluation mode; the tests share it."""
    row = (ARCHITECTURES | SLOW_ARCHITECTURES)[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: nn.Module = timm.create_model(row.model, num_classes=10, **row.options)
    return model.eval()
