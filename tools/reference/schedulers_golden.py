"""Golden trajectories of diffusers' schedulers: configs drawn at random per class, a toy network, the final latents.

    python3 tools/reference/schedulers_golden.py test/golden/schedulers [cases per class]

DPMSolverSDE needs torchsde. The loop is that of StableDiffusionPipeline, its image to image and its inpainting. Every case is small: its seed gives
the noise, so only the configuration, the timesteps and the final latents are stored.
"""

import json
import math
import random
import sys
import warnings
from pathlib import Path

import diffusers
import numpy
import scipy
import torch

warnings.filterwarnings("ignore")
diffusers.utils.logging.set_verbosity(diffusers.utils.logging.CRITICAL)

SHAPE = (1, 4, 4, 4)


def toy(x, t):
    """Stands for the network: elementwise, computed in double so that every language agrees."""
    return torch.tanh(0.6 * x.double() + 0.001 * float(torch.as_tensor(t, dtype=torch.float32)) - 0.3).float()


def random_config(name, pick):
    """A config of one class: most keys at a random value, some left to the class's default."""
    maybe = lambda p, key, *values: {key: pick.choice(values)} if pick.random() < p else {}
    flag = lambda p, key: maybe(p, key, True, False)
    betas = pick.choice(
        [
            {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"},
            {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"},
            {"beta_schedule": "squaredcos_cap_v2"},
            {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"},
            {"trained_betas": [round(0.002 + 0.0004 * i, 4) for i in range(80)], "num_train_timesteps": 80},
            {},
        ]
    )
    train = maybe(0.15, "num_train_timesteps", 500, 1200)
    spacing = maybe(0.8, "timestep_spacing", "linspace", "leading", "trailing") | maybe(0.5, "steps_offset", 0, 1)
    threshold = maybe(0.2, "thresholding", True)
    if threshold:
        threshold |= maybe(0.7, "sample_max_value", 1.0, 1.5, 3.0) | maybe(0.5, "dynamic_thresholding_ratio", 0.9, 0.6)
    clip = flag(0.6, "clip_sample") | maybe(0.4, "clip_sample_range", 1.0, 2.5)
    kinds = lambda *values: maybe(0.7, "prediction_type", *values)
    zero = maybe(0.2, "rescale_betas_zero_snr", True)
    sigma = pick.choice([{}, {"use_karras_sigmas": True}, {"use_exponential_sigmas": True}, {"use_beta_sigmas": True}, {}])
    if sigma:
        sigma |= maybe(0.15, "sigma_min", 0.05) | maybe(0.15, "sigma_max", 12.0)
    final = maybe(0.5, "final_sigmas_type", "zero", "sigma_min")
    order = maybe(0.7, "solver_order", 1, 2, 3)
    flow = maybe(0.2, "use_flow_sigmas", True)
    if flow:
        flow |= maybe(0.6, "flow_shift", 1.0, 3.0) | maybe(0.6, "prediction_type", "flow_prediction")
    common = betas | {k: v for k, v in train.items() if "trained_betas" not in betas}
    eps_v, all3 = ("epsilon", "v_prediction"), ("epsilon", "v_prediction", "sample")
    snr = common | spacing | threshold | kinds(*all3) | sigma | order | flow
    edm = maybe(0.3, "sigma_max", 80.0, 20.0) | maybe(0.3, "sigma_min", 0.01) | maybe(0.3, "sigma_data", 1.0)
    edm |= maybe(0.5, "sigma_schedule", "karras", "exponential") | maybe(0.3, "rho", 5.0) | kinds(*eps_v) | final
    base = name.replace("Parallel", "").removesuffix("Scheduler")
    return {
        "DDIM": lambda: common | spacing | threshold | clip | kinds(*all3) | zero | flag(0.6, "set_alpha_to_one"),
        "DDPM": lambda: common
        | spacing
        | threshold
        | clip
        | kinds(*all3)
        | maybe(0.15, "beta_schedule", "sigmoid", "laplace")
        | maybe(0.6, "variance_type", "fixed_small", "fixed_small_log", "fixed_large"),
        "PNDM": lambda: common | spacing | kinds(*eps_v) | flag(0.8, "skip_prk_steps") | flag(0.5, "set_alpha_to_one"),
        "LMSDiscrete": lambda: common | spacing | kinds(*all3) | sigma,
        "EulerDiscrete": lambda: common
        | spacing
        | kinds(*all3)
        | sigma
        | zero
        | final
        | maybe(0.2, "interpolation_type", "log_linear")
        | maybe(0.3, "timestep_type", "continuous"),
        "EulerAncestralDiscrete": lambda: common | spacing | kinds(*eps_v) | zero,
        "HeunDiscrete": lambda: common | spacing | kinds(*all3) | sigma | clip | maybe(0.1, "beta_schedule", "exp"),
        "KDPM2Discrete": lambda: common | spacing | kinds(*eps_v) | sigma,
        "KDPM2AncestralDiscrete": lambda: common | spacing | kinds(*eps_v) | sigma,
        "DPMSolverMultistep": lambda: snr
        | zero
        | final
        | maybe(0.8, "algorithm_type", "dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++")
        | maybe(0.5, "solver_type", "midpoint", "heun", "bh2")
        | flag(0.4, "lower_order_final")
        | flag(0.4, "euler_at_final")
        | maybe(0.2, "use_lu_lambdas", True)
        | maybe(0.2, "lambda_min_clipped", -5.1),
        "DPMSolverSinglestep": lambda: snr
        | final
        | maybe(0.7, "algorithm_type", "dpmsolver", "dpmsolver++", "sde-dpmsolver++")
        | maybe(0.5, "solver_type", "midpoint", "heun", "bh2")
        | flag(0.5, "lower_order_final")
        | maybe(0.2, "lambda_min_clipped", -5.1),
        "DEISMultistep": lambda: snr | maybe(0.2, "solver_type", "midpoint") | flag(0.4, "lower_order_final"),
        "UniPCMultistep": lambda: snr
        | zero
        | final
        | maybe(0.6, "solver_type", "bh1", "bh2", "midpoint")
        | flag(0.4, "predict_x0")
        | flag(0.4, "lower_order_final")
        | maybe(0.3, "disable_corrector", [0], [0, 1, 2])
        | (maybe(0.4, "shift_terminal", 0.02) if "use_flow_sigmas" in snr else {}),
        "LCM": lambda: common | threshold | clip | kinds(*all3) | zero | maybe(0.3, "original_inference_steps", 100) | maybe(0.3, "timestep_scaling", 1.0, 0.01) | flag(0.4, "set_alpha_to_one"),
        "TCD": lambda: common | kinds(*all3) | zero | maybe(0.3, "original_inference_steps", 100) | flag(0.4, "set_alpha_to_one"),
        "IPNDM": lambda: maybe(0.3, "num_train_timesteps", 500),
        "SASolver": lambda: {k: v for k, v in snr.items() if k != "solver_order"}
        | maybe(0.6, "predictor_order", 1, 2, 3)
        | maybe(0.6, "corrector_order", 1, 2, 3)
        | maybe(0.5, "algorithm_type", "data_prediction", "noise_prediction")
        | flag(0.4, "lower_order_final")
        | maybe(0.2, "lambda_min_clipped", -5.1),
        "EDMEuler": lambda: edm,
        "EDMDPMSolverMultistep": lambda: edm
        | threshold
        | order
        | maybe(0.5, "algorithm_type", "dpmsolver++", "sde-dpmsolver++")
        | maybe(0.5, "solver_type", "midpoint", "heun")
        | flag(0.4, "lower_order_final")
        | flag(0.4, "euler_at_final"),
        "FlowMatchEulerDiscrete": lambda: train
        | maybe(0.6, "shift", 1.0, 3.0)
        | maybe(0.3, "shift_terminal", 0.02)
        | {k: v for k, v in sigma.items() if k.startswith("use_")}
        | maybe(0.2, "invert_sigmas", True)
        | maybe(0.3, "stochastic_sampling", True),
        "FlowMatchHeunDiscrete": lambda: train | maybe(0.6, "shift", 1.0, 3.0),
        "DPMSolverSDE": lambda: common | spacing | kinds(*eps_v) | sigma | {"noise_sampler_seed": pick.randrange(1000)},
    }[base]() | {"_class_name": name}


def random_case(name, pick):
    mode = "text" if name.startswith("IPNDM") else pick.choice(["text", "text", "image", "inpaint"])
    case = {"config": random_config(name, pick), "seed": pick.randrange(2**31), "mode": mode}
    case["steps"] = pick.choice([1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 30, 50])
    if mode != "text":
        case["strength"] = pick.choice([1.0, 0.75, 0.6, 0.35])
    if name in ("DDIMScheduler", "DDIMParallelScheduler", "TCDScheduler"):
        case["eta"] = pick.choice([0.0, 0.0, 0.3, 1.0])
    return case


def run(case, nudge=0.0):
    """Timesteps and final latents, as the pipelines compute them; the start noise may be nudged."""
    config = case["config"]
    scheduler = getattr(diffusers, config["_class_name"]).from_config(config)
    generator = torch.Generator().manual_seed(case["seed"])
    draw = lambda: torch.randn(SHAPE, generator=generator)
    scheduler.set_timesteps(case["steps"])
    timesteps = scheduler.timesteps

    def add_noise(clean, noise, at):
        if hasattr(scheduler, "add_noise"):
            return scheduler.add_noise(clean, noise, at)
        return scheduler.scale_noise(clean, at, noise)

    if case["mode"] == "text":
        x0, noise = None, draw() * (1 + nudge)
        x = noise * getattr(scheduler, "init_noise_sigma", 1.0)
    else:
        start = case["steps"] - min(int(case["steps"] * case["strength"]), case["steps"])
        timesteps = timesteps[start * scheduler.order :]
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(start * scheduler.order)
        x0, noise = draw(), draw() * (1 + nudge)
        x = add_noise(x0, noise, timesteps[:1])
    assert len(timesteps) > 0
    names = type(scheduler).step.__code__.co_varnames
    extra = {"eta": case.get("eta", 0.0)} if "eta" in names else {}
    if "generator" in names:
        extra["generator"] = generator
    mask = (torch.arange(math.prod(SHAPE)) % 3 == 0).float().reshape(SHAPE)
    for i, t in enumerate(timesteps):
        scaled = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(toy(scaled, t), t, x, **extra, return_dict=False)[0]
        if case["mode"] == "inpaint":
            proper = x0
            if i < len(timesteps) - 1:
                proper = add_noise(x0, noise, timesteps[i + 1 : i + 2])
            x = (1 - mask) * proper + mask * x
    return timesteps.double().tolist(), x.flatten()


NAMES = """DDIM DDIMParallel DDPM DDPMParallel PNDM LMSDiscrete EulerDiscrete EulerAncestralDiscrete HeunDiscrete
KDPM2Discrete KDPM2AncestralDiscrete DPMSolverMultistep DPMSolverSinglestep DEISMultistep UniPCMultistep LCM TCD IPNDM
SASolver EDMEuler EDMDPMSolverMultistep FlowMatchEulerDiscrete FlowMatchHeunDiscrete DPMSolverSDE""".split()


def golden(name, count, pick):
    """Cases that diffusers can run, with a finite result that float32 rounding of the noise does not change."""
    cases = []
    while len(cases) < count:
        case = random_case(name + "Scheduler", pick)
        try:
            timesteps, latents = run(case)
            shift = (run(case, 1e-7)[1] - latents).norm() / latents.norm()
        except Exception:
            continue
        if torch.isfinite(latents).all() and shift < 2e-6:
            cases.append(case | {"timesteps": timesteps, "latents": [float(f"{v:.8g}") for v in latents]})
    return cases


def main(folder, count=12):
    libraries = {m.__name__: m.__version__ for m in (diffusers, torch, numpy, scipy)}
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        file = Path(folder) / f"{name}.json"
        cases = golden(name, int(count), random.Random(f"7 {name}"))
        lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
        file.write_text(f'{{"libraries": {json.dumps(libraries)}, "cases": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main(*sys.argv[1:])
