"""The named configurations that models.py can make."""

from __future__ import annotations

from copy import deepcopy


def derive(base: dict, **parts: object) -> dict:
    """A copy of `base` in which dictionaries are updated and other values replaced."""
    spec = deepcopy(base)
    for key, value in parts.items():
        if isinstance(value, dict) and isinstance(spec.get(key), dict):
            spec[key] = {**spec[key], **value}
        else:
            spec[key] = value
    return spec


END = "<|endoftext|>"
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
# exactly what the Stable Diffusion 1.x and 2.x folders hold
SD1_SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    **BETAS,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}
SD2_SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "_diffusers_version": "0.8.0",
    **BETAS,
    "clip_sample": False,
    "prediction_type": "v_prediction",
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}

CROSS = "CrossAttnDownBlock2D"
CROSS_UP = "CrossAttnUpBlock2D"
PLAIN = "DownBlock2D"
PLAIN_UP = "UpBlock2D"

VAE = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [4, 8, 8, 8],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "sample_size": 64,
    "scaling_factor": 0.18215,
}

SD1 = {
    "tokenizer": {"merges": 200, "pad": END, "max_length": 77},
    "text": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 77,
        "projection_dim": 32,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    },
    "unet": {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": [8, 16, 16, 16],
        "down_block_types": [CROSS, CROSS, CROSS, PLAIN],
        "up_block_types": [PLAIN_UP, CROSS_UP, CROSS_UP, CROSS_UP],
        "layers_per_block": 2,
        "norm_num_groups": 8,
        "cross_attention_dim": 32,
        "attention_head_dim": 8,
    },
    "vae": VAE,
    "scheduler": SD1_SCHEDULER,
}

SD2 = derive(
    SD1,
    tokenizer={"pad": "!"},
    text={"hidden_act": "gelu", "num_hidden_layers": 2, "num_attention_heads": 2, "true_ids": True},
    unet={
        "block_out_channels": [8, 8, 16, 16],
        "layers_per_block": [1, 1, 2, 1],
        "attention_head_dim": [1, 2, 2, 4],
        "use_linear_projection": True,
        "upcast_attention": True,
    },
    scheduler=SD2_SCHEDULER,
)

ODD = derive(
    SD1,
    tokenizer={"merges": 60, "specials_first": True, "ascii_only": True, "max_length": 40},
    text={
        "hidden_size": 20,
        "intermediate_size": 44,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 40,
        "true_ids": True,
    },
    unet={
        "block_out_channels": [8, 12, 20],
        "down_block_types": [PLAIN, CROSS, CROSS],
        "up_block_types": [CROSS_UP, CROSS_UP, PLAIN_UP],
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "cross_attention_dim": 20,
        "attention_head_dim": [2, 4, 4],
        "norm_eps": 1e-6,
    },
    vae={
        "block_out_channels": [4, 6, 8, 6],
        "norm_num_groups": 2,
        "latent_channels": 4,
        "layers_per_block": 2,
        "scaling_factor": 0.31,
    },
)

SDXL = derive(
    SD1,
    pipeline="StableDiffusionXLPipeline",
    tokenizer_2={"merges": 200, "pad": "!", "max_length": 77},
    text={"true_ids": True},
    text_2={**SD1["text"], "hidden_size": 24, "intermediate_size": 48, "hidden_act": "gelu", "projection_dim": 20, "projection": True, "true_ids": True, "num_hidden_layers": 2, "num_attention_heads": 2},
    unet={
        "block_out_channels": [8, 8, 16],
        "down_block_types": [PLAIN, CROSS, CROSS],
        "up_block_types": [CROSS_UP, CROSS_UP, PLAIN_UP],
        "cross_attention_dim": 56,
        "attention_head_dim": [2, 2, 4],
        "transformer_layers_per_block": [1, 1, 2],
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 68,
        "layers_per_block": 1,
    },
    vae={"scaling_factor": 0.13025},
    scheduler={"_class_name": "EulerDiscreteScheduler", **BETAS, "steps_offset": 1, "timestep_spacing": "leading", "interpolation_type": "linear", "use_karras_sigmas": False, "prediction_type": "epsilon"},
)

# What a single file without a config is taken for: SD 1.x has 8 heads, SD 2.x and CLIP heads are 64 wide, 32 norm groups.
PLAIN_DDIM = {"_class_name": "DDIMScheduler", **BETAS, "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}
SINGLE_VAE = {"block_out_channels": [32, 32, 64, 64], "norm_num_groups": 32, "layers_per_block": 2}
SD1_SINGLE = derive(
    SD1,
    single_file="sd1",
    tokenizer={"clip": True},
    text={"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 2, "num_hidden_layers": 3},
    unet={"block_out_channels": [32, 32, 64, 64], "norm_num_groups": 32, "cross_attention_dim": 128},
    vae=SINGLE_VAE,
    scheduler=PLAIN_DDIM,
)
SD2_SINGLE = derive(
    SD1_SINGLE,
    single_file="sd2",
    tokenizer={"pad": "!"},
    text={"hidden_act": "gelu"},
    unet={"block_out_channels": [64, 64, 128, 128], "attention_head_dim": [1, 1, 2, 2], "use_linear_projection": True, "upcast_attention": True},
    scheduler={"prediction_type": "v_prediction"},
)

MODELS: dict[str, dict] = {
    "sd1-tiny": SD1,
    "sd1-odd": ODD,
    "sd2-tiny": SD2,
    "sdxl-tiny": SDXL,
    "sd2-zsnr": derive(SD2, scheduler={"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}),
    "sd1-inpaint": derive(SD1, pipeline="StableDiffusionInpaintPipeline", unet={"in_channels": 9, "layers_per_block": 1}),
    # mixed depths: a list of layers, transformer blocks per level, heads per level
    "sd1-depths": derive(
        SD1,
        unet={
            "block_out_channels": [8, 16, 24],
            "down_block_types": [CROSS, PLAIN, CROSS],
            "up_block_types": [CROSS_UP, PLAIN_UP, CROSS_UP],
            "layers_per_block": [1, 3, 2],
            "transformer_layers_per_block": [2, 1, 3],
            "attention_head_dim": [2, 4, 3],
        },
    ),
    "sd1-no-mid": derive(SD1, unet={"mid_block_type": None, "layers_per_block": 1}),
    # attention only in the middle
    "sd1-mid-only": derive(
        SD1,
        unet={
            "block_out_channels": [8, 16, 24],
            "down_block_types": [PLAIN] * 3,
            "up_block_types": [PLAIN_UP] * 3,
            "layers_per_block": 2,
            "attention_head_dim": 4,
        },
    ),
    "sd1-one-level": derive(
        SD1,
        unet={"block_out_channels": [8], "down_block_types": [CROSS], "up_block_types": [CROSS_UP], "attention_head_dim": 2},
    ),
    # a distilled model's list: one layer per block, no middle block, three levels
    "sd1-small": derive(
        SD1,
        unet={
            "block_out_channels": [16, 24, 32],
            "down_block_types": [CROSS, CROSS, CROSS],
            "up_block_types": [CROSS_UP, CROSS_UP, CROSS_UP],
            "mid_block_type": None,
            "layers_per_block": 1,
        },
    ),
    "sd1-freq": derive(SD1, unet={"flip_sin_to_cos": False, "freq_shift": 1, "block_out_channels": [8, 16, 24, 24]}),
    "sd2-eps": derive(SD2, scheduler={"prediction_type": "epsilon"}, unet={"attention_head_dim": 2, "layers_per_block": 1}),
    "sd1-wide-vae": derive(SD1, vae={"block_out_channels": [8, 12, 20, 12], "layers_per_block": 2, "norm_num_groups": 4}),
    "sd1-vae4": derive(SD1, vae={"block_out_channels": [8, 8, 16], "down_block_types": ["DownEncoderBlock2D"] * 3, "up_block_types": ["UpDecoderBlock2D"] * 3}),
    "sd1-no-vae-attention": derive(SD1, vae={"mid_block_add_attention": False}),
    "sd1-no-quant-conv": derive(SD1, vae={"use_quant_conv": False, "use_post_quant_conv": False, "shift_factor": None}),
    # widths whose key names say SD 1.x although they are as wide as nothing published
    "sd1-penultimate": derive(SD1, text={"num_hidden_layers": 4, "hidden_act": "gelu"}),
    "sd1-lcm": derive(SD1, unet={"time_cond_proj_dim": 12, "layers_per_block": 1}, scheduler={"_class_name": "LCMScheduler", **BETAS, "original_inference_steps": 50, "steps_offset": 1, "timestep_scaling": 10.0}),
    "sd1-single": SD1_SINGLE,
    "sd1-single-three": derive(
        SD1_SINGLE,
        unet={"block_out_channels": [32, 64, 64], "down_block_types": [CROSS, CROSS, PLAIN], "up_block_types": [PLAIN_UP, CROSS_UP, CROSS_UP], "layers_per_block": 1, "cross_attention_dim": 64},
        text={"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 1, "num_hidden_layers": 2},
    ),
    "sd1-single-inpaint": derive(SD1_SINGLE, pipeline="StableDiffusionInpaintPipeline", unet={"in_channels": 9, "layers_per_block": 1, "cross_attention_dim": 128}),
    "sd2-single": SD2_SINGLE,
}
