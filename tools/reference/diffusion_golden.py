"""Reference numbers of src/diffusion: betas, random streams, Brownian trees, schedules and sampler trajectories.

Usage: python tools/reference/diffusion_golden.py test/golden/diffusion [part ...]
Needs torch, numpy, scipy, diffusers, torchsde and k-diffusion (pip install --no-deps torchsde trampoline k-diffusion).
Each file names the library versions that made it.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch


def numbers(tensor):
    """Shortest decimals that read back as the same float32."""
    return [float(str(np.float32(v))) for v in torch.as_tensor(tensor).flatten().tolist()]


def betas():
    from diffusers import DDIMScheduler, EulerDiscreteScheduler

    configs = [
        dict(),
        dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
        dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", rescale_betas_zero_snr=True),
        dict(beta_schedule="squaredcos_cap_v2", num_train_timesteps=250),
        dict(trained_betas=[0.1, 0.2, 0.3, 0.4]),
        dict(num_train_timesteps=100, beta_start=0.002, beta_end=0.3, rescale_betas_zero_snr=True),
    ]
    cases = []
    for config in configs:
        ddim, euler = DDIMScheduler(**config), EulerDiscreteScheduler(**config)
        n = len(ddim.betas)
        at = sorted({*range(0, n, max(1, n // 20)), n // 2 - 1, n - 2, n - 1} - {-1})
        cases.append(
            dict(
                config=config,
                at=at,
                betas=numbers(ddim.betas[at]),
                alphasCumprod=numbers(ddim.alphas_cumprod[at]),
                sigmas=numbers(euler.sigmas[:-1].flip(0)[at]),
            )
        )
    return cases


def random():
    cases = []
    plans = [[4, 1, 3], [15, 16, 17, 5, 2, 33], [256], [1000, 7, 7], [31, 1, 64]]
    seeds = [0, 1, 42, 2**31 - 1, 2**32 - 1, 2**32 + 5, 2**63 + 9]
    for k, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)
        draws = []
        for n in plans[k % len(plans)]:
            draws.append(dict(kind="normal", n=n, values=numbers(torch.randn(n, generator=generator))[-40:]))
        draws.append(dict(kind="uniform", n=5, values=numbers(torch.rand(5, generator=generator))))
        whole = torch.randint(3, 1000, (5,), generator=generator)
        draws.append(dict(kind="integers", n=5, values=whole.tolist()))
        cases.append(dict(seed=str(seed), draws=draws))
    return cases


def k_sampling():
    """k_diffusion.sampling alone: the package's own __init__ wants training dependencies."""
    import importlib.util
    import types

    if "k_diffusion" not in sys.modules:
        package = types.ModuleType("k_diffusion")
        package.__path__ = importlib.util.find_spec("k_diffusion").submodule_search_locations
        utils = types.ModuleType("k_diffusion.utils")
        utils.append_dims = lambda x, n: x[(...,) + (None,) * (n - x.ndim)]
        package.utils = utils
        solver = types.ModuleType("torchdiffeq")
        solver.odeint = None
        sys.modules.update({"k_diffusion": package, "k_diffusion.utils": utils, "torchdiffeq": solver})
    import k_diffusion.sampling

    return k_diffusion.sampling


def brownian():
    sampling = k_sampling()
    cases = []
    for seed, size, low, high, n in [(0, 20, 0.0291675, 14.6146, 6), (2**40 + 3, 7, 0.1, 80.0, 5), ([5, 6], 16, 0.002, 10.0, 4)]:
        shape = (len(seed), size) if isinstance(seed, list) else (1, size)
        noise = sampling.BrownianTreeNoiseSampler(torch.zeros(shape), low, high, seed)
        sigmas = sampling.get_sigmas_karras(n, low, high)[:-1]
        steps = list(zip(sigmas[:-1], sigmas[1:]))
        steps += [(sigmas[1], (sigmas[1] * sigmas[2]).sqrt()), (sigmas[-1], sigmas[0])]
        values = [dict(sigma=a.item(), next=b.item(), noise=numbers(noise(a, b))) for a, b in steps]
        seeds = [str(s) for s in seed] if isinstance(seed, list) else str(seed)
        cases.append(dict(seed=seeds, size=size, sigmaMin=low, sigmaMax=high, steps=values))
    sequences = []
    for entropy, key, pool, n in [(0, [], 24, 3), (2**70 + 1, [3, 2**33], 24, 4), (12345, [1], 8, 20)]:
        state = np.random.SeedSequence(entropy, spawn_key=key, pool_size=pool).generate_state(n)
        sequences.append(dict(entropy=str(entropy), key=key, pool=pool, words=state.tolist()))
    return dict(trees=cases, sequences=sequences)


parts = {"betas": betas, "random": random, "brownian": brownian}


def main():
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    versions = {name: version(name) for name in ["torch", "numpy", "scipy", "diffusers", "torchsde", "k-diffusion"]}
    for name in sys.argv[2:] or parts:
        text = json.dumps({"made by": versions, "cases": parts[name]()}, separators=(",", ":"))
        (out / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
