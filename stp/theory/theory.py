"""`python -m stp.theory` counts, enumerates and measures what the paper's theorems say (read it with docs/theory.md)."""

import argparse
import csv
import math
from collections import defaultdict
from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor

from stp.anchors.dataset import scored
from stp.diffusion import Denoiser, FromLogits
from stp.estimators import Spg
from stp.estimators.base import count_masked, mask_exactly, masked_log_probs
from stp.models.codec import Codec
from stp.models.options import Model
from stp.models.policy import Policy, load_policy
from stp.objectives import Grpo
from stp.samplers import Standard, Stp
from stp.samplers.generate import generate
from stp.tasks.countdown import Countdown
from stp.theory.enumeration import (
    L,
    along_orders,
    every_context,
    exact_draws,
    finished,
    sandwich,
    second_moment,
    toy,
    toys,
    variance_of,
)
from stp.theory.measuring import TINY, Rows, interval, one_step
from stp.theory.yardstick import BASES, GROUP, figure, yardstick
from stp.types import Anchors, Batch, Draws, Noise, Prompts, Trajectory

PAPER: dict[str, Any] = {"length": 256, "steps": 128, "block_length": 32}
GAMMAS = (0.05, 0.1, 0.2)
CLIP = 0.2


def forwards(draws: Draws) -> Rows:
    """Theorem 4.1: compares round((1 - gamma - t_cutoff) N) + 1 forwards (no + 1 without a cutoff) with those that are run."""
    rows = []
    for size, gamma, cutoff in product((PAPER, TINY), (0.0, *GAMMAS), (0.0, *GAMMAS)):
        length, N = size["length"], size["steps"]
        table_LV = torch.randn(length, 5, generator=draws.generator("table"))  # without an EOS no row ends early
        denoise = FromLogits(lambda ids_BS, table_LV=table_LV: table_LV.expand(len(ids_BS), -1, -1), 0, -1)  # type: ignore[misc]
        tokens_BL = 1 + (draws.uniform("anchor", 0, length) * 4).long()
        anchors = Anchors(tokens_BL, torch.ones_like(tokens_BL, dtype=torch.bool), draws.uniform("confidence", 0, length))
        done = Stp(**size, gamma=gamma, t_cutoff=cutoff)(denoise, Prompts(tokens_BL[:, :0]), draws, anchors)
        left = (1 - Fraction(str(gamma)) - Fraction(str(cutoff))) * N
        counts = {"theorem": math.floor(left + Fraction(1, 2)) + (cutoff > 0), "scheduled": done.nfe, "run": done.nfe_run}
        rows.append({"N": N, "gamma": gamma, "t_cutoff": cutoff, **counts, "saved": 1 - done.nfe_run / N})
    return rows


def bounds(models: int, draws: Draws) -> Rows:
    """Compares the ELBO and SPG's upper value, for K draws and in the limit, with the exact log-likelihood."""
    anything = finished(torch.zeros(draws.batch, L, dtype=torch.long))
    noises = {K: Spg(samples=K, block_length=L).draw(anything, draws, K) for K in (1, 2, 3, 8)}
    over: dict[Any, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for disagreement, denoise, response_L, logp_CL in toys(models, draws):
        for beta in (1.0, 1.5, 2.0, 4.0):
            found = over[disagreement, beta]
            for name, block in (("", L), ("_blocks_of_2", 2)):
                lower, exact, upper = sandwich(along_orders(logp_CL[None], block), beta)
                for what, value in (("gap", exact - lower), ("upper", upper - exact), ("width", upper - lower)):
                    found[what + name].append(float(value))
            for K, noise in noises.items():
                spg = Spg(samples=K, eubo_beta=beta, mixture=1.0, block_length=L)
                upper_BL = spg(denoise, finished(response_L.expand(draws.batch, -1)), noise).upper_BL
                _, exact, _ = sandwich(along_orders(logp_CL[None], L))
                found[f"K={K}"].append(float(upper_BL.sum(dim=1).mean() - exact))  # type: ignore[union-attr]

    def share(*names: str) -> float:  # the share of the models in which all of these are at least 0, up to float32
        return float(torch.stack([torch.tensor(found[name]) >= -1e-5 for name in names]).all(dim=0).float().mean())

    table: Rows = []
    for (disagreement, beta), found in over.items():
        row: dict[str, Any] = {"disagreement": disagreement, "beta": beta, "elbo_gap": sum(found["gap"]) / models}
        row |= {"elbo_below": share("gap", "gap_blocks_of_2"), "upper_above_elbo": share("width", "width_blocks_of_2")}
        row |= {f"bounds_K={K}": share(f"K={K}") for K in noises} | {"bounds_K=inf": share("upper")}
        row |= {"worst_K=inf": min(found["upper"]), "mean_K=inf": sum(found["upper"]) / models}
        table.append(row | {"bounds_blocks_of_2": share("upper_blocks_of_2")})
    return table


def one_token_fixed(models: int, draws: Draws) -> Rows:
    """Theorem 4.3 without sampling: divides the exact variance with one token of a sequence fixed by that with none fixed."""
    ratios: dict[Any, list[float]] = defaultdict(list)
    for disagreement, _, _, logp_CL in toys(models, draws):
        full = variance_of(exact_draws(logp_CL, tuple(range(L))))
        for i in range(L):
            ratio = variance_of(exact_draws(logp_CL, tuple(j for j in range(L) if j != i))) / full
            for name in ("any token", "most confident")[: 1 + (i == int(logp_CL[-1].argmax()))]:
                ratios[disagreement, name].append(ratio)
    rows: Rows = []
    for (disagreement, name), values in ratios.items():
        value = torch.tensor(values)
        shown = {"median_ratio": float(value.median()), "variance_rises": float((value > 1).float().mean())}
        rows.append({"disagreement": disagreement, "fixed": name, **shown, "largest_ratio": float(value.max())})
    return rows


def infinite_variance(draws: Draws, count: int = 1_000_000, runs: int = 5) -> tuple[Rows, dict[str, Tensor]]:
    """Computes the exact second moment over t_min, and running variances of Eq. 3 as printed (t_min = 0) and of exact masks."""
    generator = draws.generator("eq3")
    logp_CL = every_context(toy(generator, 0.5), torch.zeros(1, L, dtype=torch.long))[0]
    slope = sum(float(logp_CL[2**i].sum()) ** 2 for i in range(L))
    rows: Rows = []
    for t_min in (1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-8):
        moment = second_moment(logp_CL, t_min)
        growth = (moment - rows[-1]["second_moment"]) / math.log(rows[-1]["t_min"] / t_min) if rows else math.nan
        rows.append({"t_min": t_min, "second_moment": moment, "growth_per_log": growth, "sum_of_squared_log_p": slope})
    value_C, chance_C = exact_draws(logp_CL, tuple(range(L)))
    series = {"draws": torch.logspace(2, math.log10(count), 400).long().unique().clamp(max=count)}
    series |= {"limit": torch.tensor(variance_of((value_C, chance_C))), "second_moment": chance_C @ value_C**2}
    printed, exact = [], []
    for _ in range(runs):
        time_R1 = 1 - torch.rand(count, 1, generator=generator, dtype=torch.float64)  # in (0, 1]
        masked_RL = torch.rand(count, L, generator=generator, dtype=torch.float64) < time_R1
        printed.append(logp_CL.sum(dim=1)[(masked_RL * 2 ** torch.arange(L)).sum(dim=1)] / time_R1[:, 0])
        exact.append(value_C[torch.multinomial(chance_C, count, replacement=True, generator=generator)])
    for name, values in (("printed", printed), ("exact", exact)):
        first, second = (torch.stack(values).pow(k).cumsum(dim=1)[:, series["draws"] - 1] / series["draws"] for k in (1, 2))
        series[name] = second - first**2
    return rows, series


def rollouts(policy: Policy, tokenizer: Any, rows: int, seed: int) -> tuple[Trajectory, Anchors, Policy]:
    """Returns standard rollouts at T = 1, their own tokens as anchors, and a policy that is one GRPO step further.

    Only rollouts with enough eligible tokens for the largest gamma are kept.
    """
    group, task, codec, grpo = 8, Countdown(), Codec(tokenizer, "", 200), Grpo(beta=0.0)
    problems = [p for p in task.problems("train", math.ceil(1.4 * rows / group)) for _ in range(group)]
    draws = Draws(seed, len(problems))
    trajectory = generate(policy, Standard(**TINY, temperature=1.0), Batch(codec.prompts(problems), draws), rows=64)
    texts = codec.completions(trajectory)
    reward_B = torch.tensor([sum(task.reward_parts(p, text).values()) for p, text in zip(problems, texts, strict=True)])
    later = one_step(policy, trajectory, grpo.advantages(reward_B, group), grpo, draws)
    eligible_BL = codec.eligible(trajectory.response_BL)
    roomy_B = (eligible_BL.sum(dim=1) >= GAMMAS[-1] * TINY["length"]).nonzero().squeeze(1)[:rows]
    trajectory = trajectory.rows(roomy_B)
    confidence_BL = scored(policy, trajectory.prompts, trajectory.response_BL, rows=64)
    return trajectory, Anchors(trajectory.response_BL, eligible_BL[roomy_B], confidence_BL), later


def paired_noise(trajectory: Trajectory, count: int, draws: Draws) -> Noise:
    """Draws Elbo's exact masks. Draws j and j + count/2 share their time, which separates the two terms of Eq. 14."""
    B, length = trajectory.response_BL.shape
    n_B1 = trajectory.trainable_BL.sum(dim=1, keepdim=True)
    m_BK = count_masked(draws.uniform("times", 0, count // 2).repeat(1, 2), n_B1)
    allowed_BKL = trajectory.trainable_BL[:, None].expand(B, count, length)
    return Noise(mask_exactly(allowed_BKL, m_BK, draws.uniform("masks", 0, count, length)), n_B1 / m_BK.clamp(min=1))


@torch.no_grad()
def token_draws(denoise: Denoiser, trajectory: Trajectory, noise: Noise) -> Tensor:
    """Returns the terms w log p of every single draw. Their sum over L is a sequence's ELBO, their mean over K is Eq. 4."""
    parts = torch.arange(len(trajectory.response_BL)).split(4)
    logp_BKL = torch.cat([masked_log_probs(denoise, trajectory.rows(b), noise.rows(b)) for b in parts])
    return (noise.weight_BK[..., None] * logp_BKL).double()


def variances(draw_BK: Tensor) -> tuple[Tensor, Tensor]:
    """Returns each sequence's variance of one draw, and the part that remains at a given time (the second term of Eq. 14)."""
    half_B2K = draw_BK.view(len(draw_BK), 2, -1)
    return half_B2K.var(dim=2).mean(dim=1), (half_B2K[:, 0] - half_B2K[:, 1]).square().mean(dim=1) / 2


def fixed_tokens(
    policy: Policy, later: Policy, trajectory: Trajectory, anchors: Anchors, count: int, draws: Draws
) -> tuple[Rows, Rows, dict[str, Tensor]]:
    """Theorem 4.3, measured with and without fixed tokens on the same sequences.

    Returns ratios to nothing fixed, each token's share of the variance by confidence, and the draws of theta - theta_old.
    """
    room_B = anchors.eligible_BL.sum(dim=1)
    groups = {"all": room_B > 0, "eligible < 20": room_B < 20, "eligible >= 20": room_B >= 20}
    rows: Rows = []
    shares, deltas, nothing = [], {}, {}
    settings = [("nothing", 0.0), *product(("random", "low_confidence"), GAMMAS)]
    for select, gamma in track(settings, "same sequences, tokens fixed"):
        sampler = Stp(**TINY, gamma=gamma, t_cutoff=0.0, select="random" if select == "random" else "low_confidence")
        record = replace(trajectory, fixed_BL=sampler.start(anchors, draws).fixed_BL)
        noise = paired_noise(record, count, draws)
        old_BKL, new_BKL = token_draws(policy, record, noise), token_draws(later, record, noise)
        n_B, (variance_B, at_t_B) = record.trainable_BL.sum(dim=1).double(), variances(old_BKL.sum(dim=2))
        delta_BK = (new_BKL - old_BKL).sum(dim=2)
        here = {"V": variance_B, "V_at_t": at_t_B, "V_per_token": variance_B / n_B**2, "V_delta": variances(delta_BK)[0]}
        here["terms"] = n_B
        if select == "nothing":
            nothing, shares = here, variance_shares(old_BKL, record, anchors)
        if gamma in (0.0, GAMMAS[-1]):
            deltas[f"{select} {gamma:g}"] = delta_BK
        for name, some_B in ((name, some_B) for name, some_B in groups.items() if some_B.any()):
            row: dict[str, Any] = {"sequences": f"{name} ({int(some_B.sum())})", "fixed": select, "gamma": gamma}
            row |= {"elbo": float(old_BKL.sum(dim=2).mean(dim=1)[some_B].mean())}
            row |= {key: float(value_B[some_B].mean()) for key, value_B in here.items()}
            pairs = {key: torch.stack([here[key], nothing[key]], dim=1)[some_B] for key in here}
            row |= {f"{key}_ratio": interval("ratio", pair_B2, draws) for key, pair_B2 in pairs.items()}
            row |= {f"V_{kind}": interval(kind, pairs["V"], draws) for kind in ("difference", "median")}
            rows.append(row | {"V_delta_median": interval("median", pairs["V_delta"], draws)})
    return rows, shares, deltas


def variance_shares(token_BKL: Tensor, trajectory: Trajectory, anchors: Anchors) -> Rows:
    """Returns tokens' shares of the variance, Cov(term, ELBO) / V[ELBO]: by confidence among the eligible tokens, and the rest.

    All shares add up to 1.
    """
    centred_BKL = token_BKL - token_BKL.mean(dim=1, keepdim=True)
    share_BL = (centred_BKL * centred_BKL.sum(dim=2, keepdim=True)).mean(dim=1)
    eligible_BL, tokens = anchors.eligible_BL, trajectory.trainable_BL.sum()
    order_BL = anchors.confidence_BL.masked_fill(~eligible_BL, -torch.inf).argsort(dim=1, descending=True)
    fifth_BL = order_BL.argsort(dim=1) * 5 // eligible_BL.sum(dim=1, keepdim=True)
    groups = {f"eligible, fifth {q + 1} by confidence": eligible_BL & (fifth_BL == q) for q in range(5)}
    groups["answer span and EOS"] = trajectory.trainable_BL & ~eligible_BL
    return [
        {
            "tokens": name,
            "mean_confidence": float(anchors.confidence_BL[group_BL].mean()),
            "share_of_tokens": float(group_BL.sum() / tokens),
            "share_of_variance": float((share_BL * group_BL).sum() / share_BL.sum()),
        }
        for name, group_BL in groups.items()
    ]


def surrogate(log_ratio: Tensor, advantage: float) -> Tensor:
    """Lemma A.2's g(r; A) = min(r A, clip(r) A) at r = exp(log_ratio), elementwise."""
    ratio = log_ratio.exp()
    return torch.minimum(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage)


def limits(advantage: float, bound: float, variance_B: Tensor) -> dict[str, float]:
    """Computes Eq. 12 with the proof's constants C1 = |A| e^K / 2, C2 = |A| e^K, C3 = A^2 e^(2K), averaged over the data."""
    c = abs(advantage) * math.exp(bound)
    bias_B = c / 2 * variance_B + c * variance_B.sqrt()
    return {"bias_bound": float(bias_B.mean()), "variance_bound": float(c**2 * variance_B.mean())}


def noisy_loss(advantage: float, delta: float, sd: float, bound: float) -> dict[str, float]:
    """Returns one sample's loss by quadrature. Delta B-hat is Delta B plus Gaussian noise, cut evenly to |Delta B-hat| <= K."""
    noise_X = torch.linspace(-1, 1, 40_001, dtype=torch.float64) * (bound - abs(delta))
    chance_X = (-(noise_X**2) / (2 * sd**2)).softmax(dim=0)
    loss_X, exact = surrogate(delta + noise_X, advantage), float(surrogate(torch.tensor(delta).double(), advantage))
    V, mean = chance_X @ noise_X**2, chance_X @ loss_X
    moments = {"exact": exact, "bias": float(mean - exact), "variance": float(chance_X @ (loss_X - mean) ** 2)}
    return {"A": advantage, "delta": delta, "V": float(V)} | moments | limits(advantage, bound, V)


def gaussian_noise() -> tuple[Rows, Rows]:
    """Computes Theorem 4.4 for one sample (K = 2), and for two equally likely ones. `data variance`: of the exact losses."""
    grid = product((1.0, -1.0), (-0.5, -0.1, 0.0, math.log(1 + CLIP), 0.5), (0.02, 0.05, 0.1, 0.2, 0.5, 1.0))
    low, high = noisy_loss(1.0, math.log(1 + CLIP), 0.01, bound=0.25), noisy_loss(3.0, 0.0, 0.01, bound=0.25)
    spread = ((high["exact"] + high["bias"] - low["exact"] - low["bias"]) / 2) ** 2  # the proof's V_data[E_est[loss]]
    C3 = high["variance_bound"] / high["V"]
    two = {"V_loss": spread + (low["variance"] + high["variance"]) / 2, "V_data_of_expected_loss": spread}
    two |= {"V_data_of_exact_loss": ((high["exact"] - low["exact"]) / 2) ** 2, "C3_V": C3 * (low["V"] + high["V"]) / 2}
    return [noisy_loss(*point, bound=2.0) for point in grid], [two]


def elbo_noise(deltas: dict[str, Tensor]) -> Rows:
    """Measures the tiny model's own noise: sequence ratios from K draws of Delta B, with the mean of all draws as the truth."""
    rows: Rows = []
    for (fixed, delta_BK), advantage, K in product(deltas.items(), (1.0, -1.0), (1, 2, 4)):
        half_B2K = delta_BK.view(len(delta_BK), 2, -1)
        group_B2G = half_B2K[..., : half_B2K.shape[2] // K * K].unflatten(2, (-1, K)).mean(dim=3)
        bound, loss_B2G, V_B = float(group_B2G.abs().max()), surrogate(group_B2G, advantage), group_B2G.var(dim=2).mean(dim=1)
        bias_B = loss_B2G.mean(dim=(1, 2)) - surrogate(delta_BK.mean(dim=1), advantage)
        row = {"fixed": fixed, "A": advantage, "draws": K, "largest_delta": bound, "V": float(V_B.mean())}
        moments = {"bias": float(bias_B.mean()), "variance": float(loss_B2G.var(dim=2).mean())}
        rows.append(row | moments | limits(advantage, bound, V_B))
    return rows


def cell(value: Any) -> str:
    """Formats a number, or [value, low, high] as a value with its interval."""
    if isinstance(value, list):
        return f"{value[0]:.3g} [{value[1]:.3g}, {value[2]:.3g}]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def summary(tables: dict[str, Rows]) -> str:
    """Returns the main figures, one line each."""
    counts, limit, seen = tables["theorem_4_1"], tables["bounds"], tables["theorem_4_3"]
    equal = sum(r["theorem"] == r["scheduled"] == r["run"] for r in counts)
    moments, shares = tables["eq3_second_moment"], tables["variance_shares"]
    lines = [
        f"Theorem 4.1: {equal} of {len(counts)} settings run as many forwards as it says",
        f"bounds: ELBO below the log-likelihood in {100 * min(r['elbo_below'] for r in limit):.0f} % of toy models, SPG's "
        f"upper value above it in {100 * min(r['bounds_K=inf'] for r in limit):.0f} % or more with all draws, "
        f"{100 * min(r['bounds_K=2'] for r in limit):.0f} % or more with two",
        "Eq. 3 as printed: second moment "
        + ", ".join(f"{r['second_moment']:.0f} at t_min {r['t_min']:g}" for r in (moments[0], moments[2], moments[-1])),
    ]
    for row in (r for r in seen if r["sequences"].startswith("all") and r["gamma"] > 0):
        ratios = ", ".join(f"{name} {cell(row[name + '_ratio'])}" for name in ("V", "V_per_token", "V_delta", "terms"))
        lines.append(f"Theorem 4.3, {row['fixed']} {row['gamma']:g}, over nothing fixed: {ratios}")
    lines.append(
        f"most confident fifth: {100 * shares[0]['share_of_tokens']:.1f} % of the tokens, "
        f"{100 * shares[0]['share_of_variance']:.1f} % of the variance"
    )
    for name in ("theorem_4_4", "theorem_4_4_elbo_noise"):
        for what in ("bias", "variance"):
            used = max(abs(r[what]) / r[f"{what}_bound"] for r in tables[name])
            lines.append(f"{name}: the {what} reaches at most {100 * used:.2g} % of its bound")
    for row in tables.get("yardstick", []):
        shown = ", ".join(f"{name} {cell(row[name])}" for name in ("bias", "V", "V_delta", "cosine"))
        lines.append(f"yardstick, {row['base']}, gamma {row['gamma']:g}, {row['estimator']}: {shown}")
    return "\n".join(f"- {line}" for line in lines)


def write(tables: dict[str, Rows], to: Path) -> None:
    """Writes theory.md with the summary and every table, and each table as CSV (an interval in three columns)."""
    text = summary(tables) + "\n\n"
    for name, rows in tables.items():
        lines = [" | ".join(rows[0]), "|".join(["---"] * len(rows[0])), *(" | ".join(map(cell, row.values())) for row in rows)]
        text += f"## {name}\n\n" + "".join(f"| {line} |\n" for line in lines) + "\n"
        with (to / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            spread = [{k: v if isinstance(v, list) else [v] for k, v in row.items()} for row in rows]
            flat = [
                {k + end: x for k, v in row.items() for x, end in zip(v, ("", "_low", "_high"), strict=False)} for row in spread
            ]
            writer = csv.DictWriter(file, flat[0])
            writer.writeheader()
            writer.writerows(flat)
    (to / "theory.md").write_text(text, encoding="utf-8")


def draw(tables: dict[str, Rows], series: dict[str, Tensor], to: Path) -> None:
    """Draws Eq. 3's infinite variance as theory_eq3.png, and Theorem 4.3 as measured in theory_fixed.png."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    eq3, (moment, running) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    rows = tables["eq3_second_moment"]
    moment.semilogx([r["t_min"] for r in rows], [r["second_moment"] for r in rows], "o-", label="Eq. 3 as printed")
    moment.axhline(float(series["second_moment"]), color="C1", label="exact masks, no t_min")
    moment.set(xlabel="smallest time t_min", ylabel="exact second moment of a draw", ylim=(0, None))
    for name, colour, label in (("printed", "C0", "Eq. 3 as printed, five runs"), ("exact", "C1", "exact masks, five runs")):
        for i, run in enumerate(series[name]):
            running.loglog(series["draws"], run, color=colour, linewidth=1, label=None if i else label)
    running.axhline(float(series["limit"]), color="black", linestyle=":", label="exact masks, enumerated")
    running.set(xlabel="draws", ylabel="running sample variance")
    fixed, (ratios, shares) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for i, (select, rule) in enumerate((("random", "random"), ("low_confidence", "most confident"))):
        rows = [r for r in tables["theorem_4_3"] if r["fixed"] == select and r["sequences"].startswith("all")]
        for key, style, what in (("V_ratio", "o-", "variance"), ("V_per_token_ratio", "s:", "variance per token")):
            middle, low, high = torch.tensor([r[key] for r in rows]).T
            at, error = torch.tensor([r["gamma"] for r in rows]) + 0.002 * i, torch.stack([middle - low, high - middle])
            ratios.errorbar(at, middle, error, fmt=style, color=f"C{i}", capsize=3, label=f"{rule}: {what}")
    ratios.plot(GAMMAS, [r["terms_ratio"][0] for r in rows], "k--", label="L'/L of Eq. 15")
    ratios.set(xlabel="gamma", ylabel="ratio to nothing fixed", ylim=(0, None))
    rows = tables["variance_shares"]
    for offset, key in ((-0.2, "share_of_tokens"), (0.2, "share_of_variance")):
        shares.bar([i + offset for i in range(len(rows))], [r[key] for r in rows], 0.4, label=key.replace("_", " "))
    shares.set_xticks(range(len(rows)), ["most\nconfident", "2", "3", "4", "least\nconfident", "answer\nand EOS"])
    for name, drawn in (("eq3", eq3), ("fixed", fixed)):
        for axes in drawn.axes:
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(frameon=False, fontsize="small")
        drawn.savefig(to / f"theory_{name}.png", dpi=150)
        plt.close(drawn)


def main() -> None:
    """Counts, enumerates and measures. Writes theory.md, a CSV per table and the figures."""
    parser = argparse.ArgumentParser(prog="python -m stp.theory", description=__doc__)
    parser.add_argument("--to", type=Path, default=Path("outputs/theory"), help="folder to write (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=96, help="sequences of Theorem 4.3 (default: %(default)s)")
    parser.add_argument(
        "--draws", type=int, default=48, help="single draws per sequence, an even number (default: %(default)s)"
    )
    parser.add_argument("--models", type=int, default=200, help="toy models of each kind (default: %(default)s)")
    parser.add_argument(
        "--yardstick-rows", type=int, default=16, help="rollouts per base of the yardstick; 0: none (default: %(default)s)"
    )
    parser.add_argument("--forwards", type=int, default=6, help="forwards of each of its estimates (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="estimates by each of its estimators (default: %(default)s)")
    parser.add_argument("--bases", nargs="+", choices=BASES, default=list(BASES), help="its tiny bases (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="seed of every draw (default: %(default)s)")
    options = parser.parse_args()
    if options.yardstick_rows % GROUP or options.repeats < 2 or options.forwards % 6 or options.forwards < 6:
        parser.error(f"--yardstick-rows must be a multiple of {GROUP}, --repeats at least 2, --forwards a multiple of 6")
    if options.draws < 16 or options.draws % 2 or options.rows < 4 or options.models < 1:
        parser.error("--draws must be even and at least 16, --rows at least 4, --models at least 1")
    tables = {"theorem_4_1": forwards(Draws(options.seed, 4))}
    tables["bounds"] = bounds(options.models, Draws(options.seed, 400))
    tables["one_token_fixed"] = one_token_fixed(options.models, Draws(options.seed, 1))
    tables["eq3_second_moment"], series = infinite_variance(Draws(options.seed, 1))
    policy, tokenizer = load_policy(Model(), trainable=False)
    found, anchors, later = rollouts(policy, tokenizer, options.rows, options.seed)
    draws = Draws(options.seed, len(found.response_BL))
    measured = fixed_tokens(policy, later, found, anchors, options.draws, draws)
    tables["theorem_4_3"], tables["variance_shares"], deltas = measured
    tables["theorem_4_4"], tables["two_samples"] = gaussian_noise()
    tables["theorem_4_4_elbo_noise"] = elbo_noise(deltas)
    options.to.mkdir(parents=True, exist_ok=True)
    if options.yardstick_rows:
        tables["yardstick"] = yardstick(options.bases, options.yardstick_rows, options.forwards, options.repeats, options.seed)
        figure(tables["yardstick"], options.to / "theory_yardstick.png")
    write(tables, options.to)
    draw(tables, series, options.to)
    print(f"{summary(tables)}\nwritten to {options.to}")
