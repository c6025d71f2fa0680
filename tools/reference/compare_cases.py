"""Random command lines for compare.py: every scheduler class with its own options, models, sizes, modes, prompts."""

from __future__ import annotations

from random import Random

from model_specs import MODELS
from pipeline_golden import Case
from tiny_tokenizer import WORDS

SPACINGS = ["leading", "trailing", "linspace"]
CURVES = [{}, {}, {"use_karras_sigmas": True}, {"use_exponential_sigmas": True}, {"use_beta_sigmas": True}]
BETAS = [{}, {}, {}, {"beta_schedule": "linear"}, {"beta_schedule": "squaredcos_cap_v2"}, {"beta_start": 0.0007, "beta_end": 0.015}]
CLIPS = [{}, {}, {"clip_sample": True, "clip_sample_range": 3.0}, {"thresholding": True, "dynamic_thresholding_ratio": 0.9, "sample_max_value": 4.0}]
ZERO_SNR = [{}, {}, {"rescale_betas_zero_snr": True}]
THRESHOLD = [{}, {}, {}, {"thresholding": True, "sample_max_value": 5.0}]

# for each class: lists of alternatives, one of each list is taken
SCHEDULERS: dict[str, list[list[dict]]] = {
    "DDIMScheduler": [CLIPS, ZERO_SNR, [{}, {"set_alpha_to_one": True}]],
    "DDPMScheduler": [CLIPS, ZERO_SNR, [{}, {"variance_type": "fixed_small_log"}, {"variance_type": "fixed_large"}]],
    "PNDMScheduler": [[{}, {}, {"skip_prk_steps": False}], [{}, {"set_alpha_to_one": True}]],
    "LMSDiscreteScheduler": [CURVES],
    "EulerDiscreteScheduler": [
        CURVES,
        ZERO_SNR,
        [{}, {"final_sigmas_type": "sigma_min"}],
        [{}, {"interpolation_type": "log_linear"}],
        [{}, {}, {"timestep_type": "continuous"}],
        [{}, {}, {"sigma_min": 0.1, "sigma_max": 10.0}],
    ],
    "EulerAncestralDiscreteScheduler": [ZERO_SNR],
    "HeunDiscreteScheduler": [CURVES, [{}, {}, {"clip_sample": True, "clip_sample_range": 4.0}]],
    "KDPM2DiscreteScheduler": [CURVES],
    "KDPM2AncestralDiscreteScheduler": [CURVES],
    "DPMSolverMultistepScheduler": [
        CURVES + [{"use_lu_lambdas": True}],
        ZERO_SNR,
        THRESHOLD,
        [{"algorithm_type": kind} for kind in ("dpmsolver++", "dpmsolver++", "dpmsolver", "sde-dpmsolver++", "sde-dpmsolver")],
        [{"solver_order": order} for order in (1, 2, 2, 3)],
        [{}, {"solver_type": "heun"}],
        [{}, {"lower_order_final": False}],
        [{}, {"euler_at_final": True}],
        [{}, {"final_sigmas_type": "sigma_min"}],
        [{}, {}, {"lambda_min_clipped": -5.1}],
    ],
    "DPMSolverSinglestepScheduler": [
        CURVES,
        THRESHOLD,
        [{"algorithm_type": kind} for kind in ("dpmsolver++", "dpmsolver++", "dpmsolver", "sde-dpmsolver++")],
        [{"solver_order": order} for order in (1, 2, 2, 3)],
        [{}, {"solver_type": "heun"}],
        [{}, {"lower_order_final": True}],
        [{}, {"final_sigmas_type": "sigma_min"}],
    ],
    # without a seed of its own this class draws from torch's global generator
    "DPMSolverSDEScheduler": [CURVES, [{"noise_sampler_seed": 3}, {"noise_sampler_seed": 123456789}]],
    "DEISMultistepScheduler": [CURVES, THRESHOLD, [{"solver_order": order} for order in (1, 2, 3)], [{}, {"lower_order_final": False}]],
    "UniPCMultistepScheduler": [
        CURVES,
        ZERO_SNR,
        THRESHOLD,
        [{"solver_order": order} for order in (1, 2, 2, 3)],
        [{}, {"solver_type": "bh1"}],
        [{}, {"predict_x0": False}],
        [{}, {"lower_order_final": False}],
        [{}, {"disable_corrector": [0]}],
        [{}, {"final_sigmas_type": "sigma_min"}],
    ],
    "LCMScheduler": [ZERO_SNR, [{}, {"timestep_scaling": 8.0}], [{}, {"set_alpha_to_one": False}], [{}, {"original_inference_steps": 100}]],
    "TCDScheduler": [ZERO_SNR, [{}, {"timestep_scaling": 8.0}], [{}, {"original_inference_steps": 100}]],
    "SASolverScheduler": [CURVES[:3], [{"algorithm_type": kind} for kind in ("data_prediction", "noise_prediction")], [{"predictor_order": 3}, {}], [{"corrector_order": 1}, {}]],
}
NO_SPACING = ("LCMScheduler", "TCDScheduler", "DPMSolverSinglestepScheduler")
NO_SAMPLE = ("PNDMScheduler",)
LAYOUTS = ["plain"] * 8 + ["fp32", "fp16-variant", "sharded", "old-attention", "prefixless", "position-ids", "tokenizer-json"]
SINGLE = ["sd1-single", "sd1-single-three", "sd2-single"]
BASES = [name for name in MODELS if not any(part in name for part in ("inpaint", "xl", "lcm", "single"))]


def random_prompt(rng: Random, longest: int, commas: bool) -> str:
    words = [rng.choice(WORDS) for _ in range(rng.choice([0, 1, 3, 8, 12, 20, longest]))]
    return " ".join(word + ("," if commas and rng.random() < 0.2 else "") for word in words).rstrip(",")


def random_options(rng: Random, scheduler: str, own_prediction: str) -> dict:
    options: dict = {}
    for alternatives in SCHEDULERS[scheduler]:
        options |= rng.choice(alternatives)
    options |= rng.choice(BETAS)
    if scheduler not in NO_SPACING:
        options |= {"timestep_spacing": rng.choice(SPACINGS), "steps_offset": rng.choice([0, 1, 1])}
    if rng.random() < 0.15:
        kinds = ["epsilon", "v_prediction"] + ([] if scheduler in NO_SAMPLE else ["sample"])
        options["prediction_type"] = rng.choice(kinds)
    if options.get("rescale_betas_zero_snr") and options.get("prediction_type", own_prediction) == "epsilon":
        # an epsilon net says nothing at zero signal: diffusers divides by zero there
        options["prediction_type"] = "v_prediction"
    return options


def random_case(rng: Random, scheduler: str | None = None, mode: str | None = None, model: str | None = None) -> Case:
    mode = mode or rng.choice(["text", "text", "text", "image", "inpaint"])
    model = model or rng.choice(["sd1-tiny"] * 4 + ["sd1-odd"] * 3 + ["sd2-tiny"] * 3 + BASES + SINGLE)
    single = "single" in model
    if single:
        model = rng.choice([model, model, "sd1-single-inpaint"]) if mode == "inpaint" else model
    elif mode == "inpaint" and rng.random() < 0.4:
        model = "sd1-inpaint"
    elif mode == "text" and rng.random() < 0.04:
        model = "sd1-lcm"
    scheduler = scheduler or rng.choice(list(SCHEDULERS))
    own = MODELS[model]["scheduler"].get("prediction_type", "epsilon")
    syntax = rng.choice(["plain", "a1111"])
    sizes = [64, 64, 72, 56, 96, 40, 128]
    width, height = rng.choice(sizes), rng.choice(sizes)
    layers = MODELS[model]["text"]["num_hidden_layers"]
    options = {} if single else random_options(rng, scheduler, own)
    scheduler = None if single else scheduler
    return Case(
        model=model,
        # A1111's syntax breaks chunks at commas
        prompt=random_prompt(rng, 110 if syntax == "plain" else 30, syntax == "plain"),
        negative=random_prompt(rng, 90 if syntax == "plain" else 30, False) if rng.random() < 0.7 else "",
        mode=mode,
        steps=rng.choice([1, 2, 3, 5, 8, 10, 20]),
        cfg=rng.choice([7.5, 7.5, 3.0, 1.0, 1.5, 12.0, 0.0]),
        seed=rng.choice([0, 1, 7, 42, 2**31, 2**32 - 1, rng.randrange(2**32)]),
        width=width,
        height=height,
        count=rng.choice([1, 1, 1, 1, 2, 3]),
        strength=rng.choice([0.75, 0.3, 0.5, 0.99, 1.0, 0.8]),
        eta=rng.choice([0.0, 0.0, 0.0, 0.5, 1.0]) if scheduler in (None, "DDIMScheduler", "TCDScheduler") else 0.0,
        clip_skip=rng.choice([None, None, None, 1, 2, layers]),
        scheduler=scheduler,
        options=options,
        layout="single-file" if single else rng.choice(LAYOUTS),
        init_size=rng.choice([None, None, (width + 24, height + 8), (37, 51)]) if mode == "inpaint" else None,
        syntax=syntax,
    )
