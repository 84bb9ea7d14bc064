"""Recipes of the sizes in the papers, on pretrained video models."""

from __future__ import annotations

from worldvalue.backbones.experts import ExpertConfig
from worldvalue.data.pictures import PictureSettings
from worldvalue.models import EstimatorConfig
from worldvalue.models.mv_wam import MVWAMConfig
from worldvalue.models.viva import ViVaConfig
from worldvalue.models.wav import WAVConfig
from worldvalue.models.wvm import WVMConfig
from worldvalue.recipes.recipe import Recipe, like_mv_wam, like_viva, like_wav
from worldvalue.training.settings import TrainingSettings

_WAN22_VIDEO = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 24,
    "attention_head_dim": 128,
    "in_channels": 48,
    "out_channels": 48,
    "text_dim": 4096,
    "ffn_dim": 14336,
    "num_layers": 30,
}
_WAN22_VAE = {
    "is_residual": True,
    "z_dim": 48,
    "patch_size": 2,
    "in_channels": 12,
    "out_channels": 12,
    "scale_factor_spatial": 16,
    "base_dim": 160,
    "decoder_base_dim": 256,
    "latents_mean": [0.0] * 48,
    "latents_std": [1.0] * 48,
}


def wan22_5b() -> Recipe:
    """The paper's size: Wan2.2-TI2V-5B with a value stream of 0.7 B parameters (WVM appendix A, Table A.1).

    Run: ``worldvalue train wvm --recipe wan22_5b --pretrained Wan-AI/Wan2.2-TI2V-5B-Diffusers --data DIR --out DIR``,
    or with the folder of a copy. The paper trained 30,000 steps of 1,024 windows in 40 hours on 32 A100; not run by us.
    """
    value = ExpertConfig(
        width=512,
        ffn_width=14336,
        cross_heads=8,
        cross_head_dim=64,
        layers=30,
        heads=24,
        head_dim=128,
        text_dim=4096,
    )
    model = WVMConfig(video=_WAN22_VIDEO, value=value, text=None, text_length=512, latent_size=(16, 16))
    return Recipe(
        estimator=EstimatorConfig(model, "AutoencoderKLWan", _WAN22_VAE, PictureSettings(256, 256)),
        training=TrainingSettings(batch=32),
    )


def viva_wan22_5b() -> Recipe:
    """ViVa at the paper's size: Wan2.2-TI2V-5B itself, three views, a robot of two arms (section 4.1.3).

    Run: ``worldvalue train viva --recipe wan22_5b --pretrained Wan-AI/Wan2.2-TI2V-5B-Diffusers --data DIR --out
    DIR``, or with the folder of a copy, and ``--set estimator.model.states=N`` for another robot. The paper trained one
    epoch in batches of 192 in 4 GPU days; not run by us.
    """
    model = ViVaConfig(video=_WAN22_VIDEO, text=None, text_length=512, latent_size=(16, 16), states=14)
    pictures = PictureSettings(256, 256, views=3)
    return like_viva(
        Recipe(
            estimator=EstimatorConfig(model, "AutoencoderKLWan", _WAN22_VAE, pictures),
            training=TrainingSettings(batch=24),
        )
    )


def mv_wam_wan21_1b() -> Recipe:
    """MV-WAM at the paper's size: the architecture of Wan2.1-1.3B, an expert of width 768, SigLIP2 base (section 4.1).

    Run: ``worldvalue train mv-wam --recipe wan21_1b --pretrained Wan-AI/Wan2.1-T2V-1.3B-Diffusers --data DIR --out
    DIR``, or with the folder of a copy; ``--set estimator.model.vision_folder=FOLDER`` for a copy of SigLIP2. The paper
    trained 20,000 steps of 1,024 on video and 15,000 of 512 on both; not run by us.
    """
    video = {
        "patch_size": (1, 2, 2),
        "num_attention_heads": 12,
        "attention_head_dim": 128,
        "in_channels": 16,
        "out_channels": 16,
        "text_dim": 4096,
        "ffn_dim": 8960,
        "num_layers": 30,
    }
    expert = ExpertConfig(
        width=768,
        ffn_width=4480,
        cross_heads=12,
        cross_head_dim=128,
        layers=30,
        heads=12,
        head_dim=128,
        text_dim=4096,
    )
    vision = {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 224,
        "patch_size": 16,
    }
    vae = {"z_dim": 16, "base_dim": 96, "latents_mean": [0.0] * 16, "latents_std": [1.0] * 16}
    model = MVWAMConfig(
        video=video,
        expert=expert,
        text=None,
        text_length=512,
        vision=vision,
        latent_size=(30, 40),
        states=14,
        actions=16,
        vision_folder="google/siglip2-base-patch16-224",
    )
    return like_mv_wam(
        Recipe(
            estimator=EstimatorConfig(model, "AutoencoderKLWan", vae, PictureSettings(240, 320, views=3)),
            training=TrainingSettings(steps=15_000, batch=16, weight_decay=0.01),
        )
    )


def wav_ltx_2b() -> Recipe:
    """WAV at the paper's size: LTX-Video 2B and two streams of width 512, three views, two arms (appendix B).

    Run: the three stages of ``tiny_wav`` with ``--recipe ltx_2b``, the first with ``--pretrained Lightricks/LTX-Video``
    or the folder of a copy in the place of an autoencoder, the other two with ``--set training.peak_rate=5e-5 --set
    training.steps=30000`` (tables 3 and 4); the text encoder is frozen always. The paper trained 30,000
    to 40,000 steps on video, as many on value and actions, five days on 8 A100; not run by us. It starts from GE-Base,
    LTX-Video trained further on robots, whose files are in a layout of their own and are not read here.
    """
    stream = ExpertConfig(
        width=512,
        ffn_width=2048,
        cross_heads=8,
        cross_head_dim=64,
        layers=28,
        heads=8,
        head_dim=64,
        text_dim=2048,
    )
    model = WAVConfig(video={}, stream=stream, text=None, text_length=128, latent_size=(6, 8), states=14, actions=14)
    pictures = PictureSettings(192, 256, views=3)
    settings = TrainingSettings(steps=40_000, batch=16, peak_rate=3e-4, warmup=1000, weight_decay=1e-5)
    recipe = Recipe(EstimatorConfig(model, "AutoencoderKLLTXVideo", {}, pictures), settings)
    return like_wav(recipe, model.chunk, arms=2)
