"""Reference trajectories of src/diffusion/samplers and noise levels of src/diffusion/schedules, on a toy network.

Usage: python tools/reference/samplers_golden.py test/golden/diffusion [--webui ../stable-diffusion-webui-forge]
Needs torch, scipy, diffusers, torchsde and k-diffusion (pip install --no-deps torchsde trampoline k-diffusion).
With a checkout of the Forge web UI it also remakes what only that code has: restart, ipndm, deis, unipc, A1111's DDIM.
"""

import argparse
import importlib.util
import inspect
import json
import sys
import types
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from diffusion_golden import k_sampling, numbers
from scipy import stats

SHAPE = (1, 4, 2, 2)
SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")


def raw(x, t):
    """The toy network, the same in TypeScript: tanh(0.7 x + 0.0017 t)."""
    return torch.tanh(0.7 * x + 0.0017 * t)


class Model:
    """Karras' denoiser over a model's noise levels, time by log sigma."""

    def __init__(self, prediction="epsilon", **config):
        from diffusers import DDIMScheduler

        self.prediction = prediction
        self.acp = DDIMScheduler(**config).alphas_cumprod
        self.sigmas = ((1 - self.acp) / self.acp) ** 0.5
        self.logs = self.sigmas.log()
        self.times = []

    def time_of(self, sigma):
        log = sigma.log()
        low = int((self.logs <= log).sum().clamp(1, len(self.logs) - 1)) - 1
        w = ((self.logs[low] - log) / (self.logs[low] - self.logs[low + 1])).clamp(0, 1)
        return (1 - w) * low + w * (low + 1)

    def sigma_at(self, t):
        low, high, w = t.floor().long(), t.ceil().long(), t.frac()
        return ((1 - w) * self.logs[low] + w * self.logs[high]).exp()

    def __call__(self, x, sigma):
        s = sigma.flatten()[0]
        t = self.time_of(s)
        self.times.append(float(t))
        out = raw(x / (s**2 + 1) ** 0.5, t)
        if self.prediction == "epsilon":
            return x - s * out
        return x / (s**2 + 1) - out * s / (s**2 + 1) ** 0.5

    def normal(self, n):
        t = torch.linspace(len(self.sigmas) - 1, 0, n)
        return torch.cat([self.sigma_at(t), torch.zeros(1)])


def trajectory(case, model, sigmas, run):
    """Runs `run(model, x, sigmas, draw)` from the noise of case['seed'] and records calls and result."""
    generator = torch.Generator().manual_seed(case["seed"])
    draw = lambda *_: torch.randn(SHAPE, generator=generator)
    k_sampling().torch.randn_like = draw
    x = draw() * sigmas[0]
    out = run(model, x, sigmas, draw)
    return dict(case, prediction=model.prediction, times=numbers(torch.tensor(model.times)), out=numbers(out))


def k_cases():
    """k-diffusion's own functions: name, function, options by our names."""
    return [
        ("euler", "sample_euler", {}),
        ("euler", "sample_euler", dict(sChurn=20.0, sTmin=0.5, sTmax=8.0, sNoise=1.01)),
        ("euler-a", "sample_euler_ancestral", {}),
        ("euler-a", "sample_euler_ancestral", dict(eta=0.4, sNoise=0.97)),
        ("heun", "sample_heun", {}),
        ("heun", "sample_heun", dict(sChurn=5.0)),
        ("dpm2", "sample_dpm_2", {}),
        ("dpm2-a", "sample_dpm_2_ancestral", {}),
        ("lms", "sample_lms", {}),
        ("dpmpp-2m", "sample_dpmpp_2m", {}),
        ("dpmpp-2m-sde", "sample_dpmpp_2m_sde", {}),
        ("dpmpp-2m-sde", "sample_dpmpp_2m_sde", dict(solver="heun", brownian=True)),
        ("dpmpp-3m-sde", "sample_dpmpp_3m_sde", {}),
        ("dpmpp-3m-sde", "sample_dpmpp_3m_sde", dict(brownian=True, eta=0.6)),
        ("dpmpp-sde", "sample_dpmpp_sde", {}),
        ("dpmpp-sde", "sample_dpmpp_sde", dict(brownian=True)),
        ("dpmpp-2s-a", "sample_dpmpp_2s_ancestral", {}),
        ("dpm-fast", "sample_dpm_fast", {}),
        ("dpm-fast", "sample_dpm_fast", dict(eta=1.0)),
        ("dpm-adaptive", "sample_dpm_adaptive", {}),
    ]


def k_run(function, options, seed):
    names = dict(eta="eta", sNoise="s_noise", sChurn="s_churn", sTmin="s_tmin", sTmax="s_tmax", solver="solver_type")
    given = {names[k]: v for k, v in options.items() if k in names}

    def run(model, x, sigmas, draw):
        sampling = k_sampling()
        f = getattr(sampling, function)
        known = inspect.signature(f).parameters
        if "noise_sampler" in known:
            tree = sampling.BrownianTreeNoiseSampler
            given["noise_sampler"] = tree(x, sigmas[-2], sigmas[0], [seed]) if options.get("brownian") else draw
        if "sigma_min" in known:
            given.update(sigma_min=sigmas[-2].item(), sigma_max=sigmas[0].item())
            if "n" in known:
                given["n"] = len(sigmas) - 1
            return f(model, x, disable=True, **given)
        return f(model, x, sigmas, disable=True, **given)

    return run


def samplers():
    sampling = k_sampling()
    cases = []
    for i, (sampler, function, options) in enumerate(k_cases()):
        model = Model("v_prediction" if i % 3 == 1 else "epsilon", **SD)
        karras = i % 2 == 1
        steps = [6, 5, 7, 9][i % 4]
        low, high = model.sigmas[0].item(), model.sigmas[-1].item()
        sigmas = sampling.get_sigmas_karras(steps, low, high) if karras else model.normal(steps)
        case = dict(sampler=sampler, schedule="karras" if karras else "normal", steps=steps, seed=100 + i, options=options)
        cases.append(trajectory(case, model, sigmas, k_run(function, options, case["seed"])))
    return cases


def diffusers_cases():
    """diffusers' schedulers that a sampler over the model's levels must equal: name, class, our schedule, its keys."""
    import diffusers as d

    leading = dict(timestep_spacing="leading", steps_offset=1)
    flat = dict(clip_sample=False, set_alpha_to_one=True)
    return [
        ("euler", d.EulerDiscreteScheduler, "linspace", {}, {}),
        ("euler", d.EulerDiscreteScheduler, "leading", leading, {}),
        ("euler", d.EulerDiscreteScheduler, "trailing", dict(timestep_spacing="trailing"), {}),
        ("euler", d.EulerDiscreteScheduler, "beta", dict(use_beta_sigmas=True), {}),
        ("euler-a", d.EulerAncestralDiscreteScheduler, "trailing", dict(timestep_spacing="trailing"), {}),
        ("heun", d.HeunDiscreteScheduler, "linspace", {}, {}),
        ("lms", d.LMSDiscreteScheduler, "linspace", {}, {}),
        ("dpm2", d.KDPM2DiscreteScheduler, "trailing", dict(timestep_spacing="trailing"), {}),
        ("dpm2-a", d.KDPM2AncestralDiscreteScheduler, "linspace", {}, {}),
        ("ddim", d.DDIMScheduler, "leading", flat, {}),
        ("ddim", d.DDIMScheduler, "leading", flat, dict(eta=0.6)),
        ("ddpm", d.DDPMScheduler, "leading", dict(clip_sample=False, timestep_spacing="leading"), {}),
        ("pndm", d.PNDMScheduler, "leading", dict(set_alpha_to_one=True), {}),
        ("plms", d.PNDMScheduler, "leading", dict(set_alpha_to_one=True, skip_prk_steps=True), {}),
    ]


def diffusers_runs():
    cases = []
    for i, (sampler, cls, schedule, keys, options) in enumerate(diffusers_cases()):
        steps, seed = 10, 200 + i
        scheduler = cls(**SD, **keys)
        scheduler.set_timesteps(steps)
        known = inspect.signature(scheduler.step).parameters
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(SHAPE, generator=generator) * scheduler.init_noise_sigma
        given = {k: v for k, v in dict(generator=generator, **options).items() if k in known}
        for t in scheduler.timesteps:
            x = scheduler.step(raw(scheduler.scale_model_input(x, t), t), t, x, **given).prev_sample
        offset = keys.get("steps_offset", 0)
        case = dict(sampler=sampler, schedule=schedule, steps=steps, seed=seed, options=options, steps_offset=offset)
        cases.append(dict(case, times=numbers(scheduler.timesteps.float()), out=numbers(x)))
    return cases


def schedules():
    """A1111's and ComfyUI's noise levels where k-diffusion has a function for them, or a formula of one line."""
    sampling = k_sampling()
    model = Model(**SD)
    table, low, high = model.sigmas, model.sigmas[0].item(), model.sigmas[-1].item()
    zero = lambda values: torch.tensor([*map(float, values), 0.0])
    spread = lambda n: torch.linspace(len(table) - 1, 0, n)
    atan = lambda part: np.tan(part * np.arctan(low) + (1 - part) * np.arctan(high))
    quantile = lambda p: stats.beta.ppf(p, 0.6, 0.6)
    cases = []
    for n in [1, 4, 11, 30]:
        rows = [
            ("normal", {}, model.normal(n)),
            ("karras", {}, sampling.get_sigmas_karras(n, low, high)),
            ("karras", dict(rho=3, sigmaMin=0.1, sigmaMax=10), sampling.get_sigmas_karras(n, 0.1, 10, 3)),
            ("exponential", {}, sampling.get_sigmas_exponential(n, low, high)),
            ("polyexponential", dict(rho=2), sampling.get_sigmas_polyexponential(n, low, high, 2)),
            ("sgm-uniform", {}, zero(model.sigma_at(t) for t in spread(n + 1)[:-1])),
            ("simple", {}, zero(table[-(1 + int(i * len(table) / n))] for i in range(n))),
            ("ddim-uniform", {}, zero(table[1 :: max(len(table) // n, 1)].flip(0))),
            ("beta", {}, zero(low + quantile(p) * (high - low) for p in 1 - np.linspace(0, 1, n))),
            ("kl-optimal", {}, torch.tensor([atan(i / n) for i in range(n + 1)])),
        ]
        rounded = dict.fromkeys(np.rint(quantile(1 - np.linspace(0, 1, n, endpoint=False)) * 999).astype(int).tolist())
        rows.append(("beta", dict(dialect="comfy"), zero(table[t] for t in rounded)))
        if n > 1:
            rows.append(("kl-optimal", dict(dialect="comfy"), zero(atan(i / (n - 1)) for i in range(n))))
        cases += [dict(schedule=s, steps=n, options=o, sigmas=numbers(v)) for s, o, v in rows]
    return cases


def load_webui(root):
    """The web UI's sampler modules without the program around them."""
    sampling = k_sampling()
    root = Path(root)

    def module(name, path=None, **fields):
        spec = importlib.util.spec_from_file_location(name, root / path) if path else None
        made = importlib.util.module_from_spec(spec) if spec else types.ModuleType(name)
        sys.modules[name] = made
        if spec:
            spec.loader.exec_module(made)
        vars(made).update(fields)
        return made

    package = sys.modules["k_diffusion"]
    package.deis = module("k_diffusion.deis", "k_diffusion/deis.py")
    module("backend")
    module("backend.modules")
    module("backend.modules.k_prediction", PredictionFlux=object)
    own = module("k_diffusion.webui", "k_diffusion/sampling.py")
    extra = module("webui_extra", "modules/sd_samplers_extra.py")
    unipc = module("webui_unipc", "modules/models/diffusion/uni_pc/uni_pc.py")
    options = types.SimpleNamespace(
        uni_pc_variant="bh1", uni_pc_skip_type="time_uniform", uni_pc_order=3, uni_pc_lower_order_final=True
    )
    for name in ["modules.models", "modules.models.diffusion"]:
        module(name)
    module("modules.models.diffusion.uni_pc", uni_pc=unipc)
    module("modules.torch_utils", float64=lambda _: torch.float64)
    shared = module("modules.shared", opts=options)
    module("modules", shared=shared)
    impl = module("webui_timesteps", "modules/sd_samplers_timesteps_impl.py")
    extra.k_diffusion.sampling = sampling
    impl.k_diffusion.sampling = sampling
    return own, extra, impl


def webui(root):
    own, extra, impl = load_webui(root)
    cases = []
    plain = [("ipndm", own.sample_ipndm, 7), ("deis", own.sample_deis, 7), ("restart", extra.restart_sampler, 22)]
    for i, (sampler, function, steps) in enumerate(plain):
        model = Model(**SD)
        sigmas = model.normal(steps)

        def run(m, x, s, _draw):
            # ipndm ends with the clean estimate in later versions than this checkout
            return m(function(m, x, s[:-1], disable=True), s[-2]) if sampler == "ipndm" else function(m, x, s, disable=True)

        case = dict(sampler=sampler, schedule="normal", steps=steps, seed=300 + i, options={})
        cases.append(trajectory(case, model, sigmas, run))
    for i, (sampler, options) in enumerate([("ddim", {}), ("ddim", dict(eta=0.7)), ("plms", {}), ("unipc", {})]):
        cases.append(compvis(impl, sampler, options, 310 + i))
    return cases


def compvis(impl, sampler, options, seed, steps=7):
    """A1111's samplers over timesteps: x in variance-preserving scale, the network's raw noise."""
    model = Model(**SD)
    times = []

    class Network:
        inner_model = types.SimpleNamespace(inner_model=types.SimpleNamespace(alphas_cumprod=model.acp))

        def __call__(self, x, t, **_):
            times.append(float(t.flatten()[0]))
            return raw(x, t.float().reshape(-1, 1, 1, 1))

    generator = torch.Generator().manual_seed(seed)
    draw = lambda *_: torch.randn(SHAPE, generator=generator)
    k_sampling().torch.randn_like = draw
    stamps = torch.tensor(range(0, 1000, 1000 // steps)).add(1).clip(0, 999)
    arguments = dict(extra_args={}, callback=lambda _: None) if sampler == "unipc" else dict(disable=True, **options)
    out = getattr(impl, sampler)(Network(), draw(), stamps, **arguments)
    case = dict(sampler=sampler, steps=steps, seed=seed, options=dict(options, method="compvis"))
    return dict(case, times=numbers(torch.tensor(times)), out=numbers(out))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--webui", help="checkout of stable-diffusion-webui-forge")
    arguments = parser.parse_args()
    sampling = k_sampling()
    sampling.torch = types.SimpleNamespace(**{k: getattr(torch, k) for k in dir(torch)})
    versions = {name: version(name) for name in ["torch", "numpy", "scipy", "diffusers", "torchsde", "k-diffusion"]}
    parts = dict(samplers=samplers, diffusers=diffusers_runs, schedules=schedules)
    if arguments.webui:
        versions["forge"] = "dfdcbab"
        parts["webui"] = lambda: webui(arguments.webui)
    for name, part in parts.items():
        text = json.dumps({"made by": versions, "cases": part()}, separators=(",", ":"))
        (arguments.out / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
