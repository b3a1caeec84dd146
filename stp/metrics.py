"""What an update tells about itself: the ELBO's variance (Theorems 4.3 and 4.4), rewards, lengths, forwards, confidence."""

from typing import Any

import torch
from torch import Tensor

from stp.estimators.base import Estimator
from stp.ranks import Ranks
from stp.roles import Clock
from stp.types import LogProbs, Rollout


def spent(clock: Clock, ranks: Ranks) -> dict[str, float]:
    """Returns the seconds of each phase on this rank, and under `cpu` the processor seconds of all ranks."""
    seconds = clock.totals()
    return seconds | ranks.sum({"cpu": seconds["cpu"]})


def elbo_stats(
    estimator: Estimator,
    old: LogProbs | None,
    trainable_BL: Tensor,
    draw_parts: list[tuple[Tensor, Tensor]],
    ranks: Ranks,
) -> dict[str, float]:
    """Returns Theorem 4.3's variance over the draws, and Theorem 4.4's V and maximum of the difference theta - theta_old.

    draw_parts: (rows, draw_BK) of theta at the last inner update. old: theta_old's log-likelihoods. It is None if the objective
    does not use them; the variance is then theta's.
    """
    n_B = trainable_BL.sum(dim=1).clamp(min=1)
    parts = [(torch.arange(len(n_B)), old.draw_BK)] if old is not None else draw_parts
    rows_B = torch.cat([part for part, _ in parts]) if parts else torch.arange(0)
    draw_BK = torch.cat([draws for _, draws in parts]) if parts else torch.zeros(0, 1)
    record: dict[str, Any] = {"elbo": (draw_BK.mean(dim=1) / n_B[rows_B]).tolist()}
    if estimator.independent and draw_BK.shape[1] > 1:
        variance_B = draw_BK.var(dim=1)
        record |= {"variance": variance_B.tolist(), "variance_per_token": (variance_B / n_B[rows_B] ** 2).tolist()}
    if old is not None and draw_parts:
        delta_BK = torch.cat([new - old.draw_BK[part] for part, new in draw_parts])
        record["delta_max"] = delta_BK.mean(dim=1).abs().tolist()
        if estimator.independent and delta_BK.shape[1] > 1:
            record["delta_variance"] = delta_BK.var(dim=1).tolist()
    together = ranks.lists(record)
    out = {f"elbo/{k}": float(torch.tensor(v).mean()) for k, v in together.items() if v and k != "delta_max"}
    for name in ("variance", "delta_variance"):
        if together.get(name):
            out[f"elbo/{name}_median"] = float(torch.tensor(together[name]).median())
    if together.get("delta_max"):
        out["elbo/delta_max"] = max(together["delta_max"])
    return out


def rollout_stats(rollout: Rollout, group_size: int, ranks: Ranks) -> dict[str, float]:
    """Returns the means of rewards, lengths and pruned tokens of a rollout, over all ranks, and its forwards.

    `reward/failed` is the share of completions whose reward could not be computed, if there are any.
    """
    trajectory = rollout.trajectory
    rows = ranks.lists(
        {
            "reward": rollout.reward_B.tolist(),
            "length": trajectory.until_eos_BL.sum(dim=1).tolist(),
            "ended": (~trajectory.until_eos_BL[:, -1]).tolist(),
            "fixed": trajectory.fixed_BL.sum(dim=1).tolist(),
            "trainable": trajectory.trainable_BL.sum(dim=1).tolist(),
            "without_anchor": (~rollout.anchored_B).tolist(),
            "correct": rollout.correct_B.tolist(),
            "failed": ["failed" in parts for parts in rollout.reward_parts],
            "nfe": trajectory.nfe_B.tolist(),
            "nfe_run": [trajectory.nfe_run],
        }
    )
    tensors = {name: torch.tensor(values, dtype=torch.float32) for name, values in rows.items()}
    spread = tensors["reward"].view(-1, group_size)
    failed = {"reward/failed": float(tensors["failed"].mean())} if tensors["failed"].any() else {}
    return {
        "reward/mean": float(tensors["reward"].mean()),
        "reward/std": float(tensors["reward"].std()),
        "reward/equal_groups": float((spread.max(dim=1).values == spread.min(dim=1).values).float().mean()),
        "reward/best_of_group": float(spread.max(dim=1).values.mean()),
        "reward/correct": float(tensors["correct"].mean()),
        "completion/length": float(tensors["length"].mean()),
        "completion/ended": float(tensors["ended"].mean()),
        "pruning/fixed": float(tensors["fixed"].mean()),
        "pruning/rows_with_nothing_fixed": float((tensors["fixed"] == 0).float().mean()),
        "pruning/rows_without_anchor": float(tensors["without_anchor"].mean()),
        "pruning/trainable": float(tensors["trainable"].mean()),
        **rollout.pruning,
        **failed,
        **forwards(trajectory.scheduled, trajectory.nfe, tensors["nfe"]),
        "nfe/run": float(tensors["nfe_run"].max()),
    } | rescue_stats(rollout, group_size, ranks)


def forwards(scheduled: bool, nfe: int, nfe_B: Tensor) -> dict[str, float]:
    """Returns the forwards of a rollout: the schedule's count (Theorem 4.1), or what the rows needed where each has its own."""
    if scheduled:
        return {"nfe": float(nfe)}
    quartiles = nfe_B.quantile(torch.tensor([0.25, 0.5, 0.75])).tolist()
    named = zip(("nfe/q25", "nfe/median", "nfe/q75"), quartiles, strict=True)
    return {"nfe": float(nfe_B.mean()), **dict(named), "nfe/max": float(nfe_B.max())}


def rescue_stats(rollout: Rollout, group_size: int, ranks: Ranks) -> dict[str, float]:
    """Returns what a rescue did and found, over all ranks; nothing if the run has none.

    Groups and rows are counts. Forwards are those that the rescue added, per completion of the batch, as `nfe` is. Reward and
    share of wrong groups are those of the first rollout.
    """
    rescued = rollout.rescued
    if rescued is None:
        return {}
    replaced_NG = rescued.replaced_B.view(-1, group_size)
    hinted_BL = torch.zeros_like(rollout.trajectory.fixed_BL) if rescued.hinted_BL is None else rescued.hinted_BL
    sums = ranks.sum(
        {
            "batch": len(rescued.replaced_B),
            "groups": rescued.groups,
            "groups_rescued": int(replaced_NG.any(dim=1).sum()),
            "rows_replaced": int(replaced_NG.sum()),
            "forwards": rescued.forwards,
            "reward_before": float(rescued.first.reward_B.sum()),
            "all_wrong": int((~rescued.first.correct_B.view_as(replaced_NG)).all(dim=1).sum()),
            "hinted": int(hinted_BL.sum()),
            "taught": int((hinted_BL & rollout.trajectory.trainable_BL).sum()),
        }
    )
    batch, rows = sums.pop("batch"), max(sums["rows_replaced"], 1)
    per = {"forwards": batch, "reward_before": batch, "all_wrong": batch / group_size, "hinted": rows, "taught": rows}
    return {f"rescue/{name}": value / per.get(name, 1) for name, value in sums.items()}


BINS = 50  # equal parts of [0, 1] into which the confidence of completions falls


def confidence_stats(rollout: Rollout, tau: float | None, ranks: Ranks) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Returns how sure the policy was of what it committed, and whether it was right: metrics, and calibration.jsonl's record.

    A token's confidence is the probability that it had when it was committed. A completion's confidence is the mean over the
    tokens that the policy chose, up to its EOS. tau: the threshold from which on a token is committed at once, unless a
    schedule decides. The record has sums over the completions of each bin that holds any, out of BINS equal parts of [0, 1].
    """
    trajectory = rollout.trajectory
    committed_BL = trajectory.trainable_BL & (trajectory.step_BL >= 0)
    confidence_BL = trajectory.logp_BL.exp() * committed_BL
    tokens_B = committed_BL.sum(dim=1)
    below_BL = committed_BL & (trajectory.logp_BL < torch.tensor(tau or 0.0).log())
    rows = ranks.lists(
        {
            "tokens": tokens_B.tolist(),
            "confidence": confidence_BL.sum(dim=1, dtype=torch.float64).tolist(),
            "below": below_BL.sum(dim=1).tolist(),
            "forwards": trajectory.nfe_B.tolist(),
            "correct": rollout.correct_B.long().tolist(),
            "reward": rollout.reward_B.tolist(),
        }
    )
    sums = {name: torch.tensor(values, dtype=torch.float64) for name, values in rows.items()}
    tokens = float(sums["tokens"].sum().clamp(min=1))
    metrics = {
        "confidence/mean": float(sums["confidence"].sum()) / tokens,
        "nfe/tokens_per_forward": tokens / float(sums["forwards"].sum().clamp(min=1)),
    }
    if tau is not None:
        metrics["confidence/below_tau"] = float(sums["below"].sum()) / tokens
    chose = sums["tokens"] > 0
    if not chose.any():  # every completion is its anchor's tokens alone
        return metrics, []
    of_rows = {"count": chose.double(), "confidence": sums["confidence"] / sums["tokens"].clamp(min=1)}
    of_rows = {name: v[chose] for name, v in (of_rows | {n: sums[n] for n in ("correct", "reward")}).items()}
    metrics["confidence/gap"] = float((of_rows["confidence"] - of_rows["correct"]).mean())
    bin_B = (of_rows["confidence"] * BINS).long().clamp(max=BINS - 1)
    held = bin_B.unique()
    columns = {name: bin_B.bincount(values, minlength=BINS)[held].tolist() for name, values in of_rows.items()}
    return metrics, [{"update": rollout.draws.update + 1, "bin": held.tolist(), **columns}]


def sample_records(rollout: Rollout, count: int) -> list[dict[str, Any]]:
    """Returns the first `count` completions of this rank as records for samples.jsonl."""
    return [
        {
            "update": rollout.draws.update + 1,
            "row": i,
            "problem": rollout.problems[i].id,
            "prompt": rollout.problems[i].question,
            "completion": rollout.completions[i],
            "fixed": rollout.trajectory.fixed_BL[i].nonzero().squeeze(1).tolist(),
            **_rescued(rollout, i),
            "rewards": rollout.reward_parts[i],
            "advantage": float(rollout.advantage_B[i].mean()),
        }
        for i in range(min(count, len(rollout.completions)))
    ]


def _rescued(rollout: Rollout, row: int) -> dict[str, Any]:
    """Returns what a rescue did with a completion: whether it is another one than the first, and the positions of its hints."""
    if rollout.rescued is None:
        return {}
    hinted_BL = rollout.rescued.hinted_BL
    hinted = {} if hinted_BL is None else {"hinted": hinted_BL[row].nonzero().squeeze(1).tolist()}
    return {"replaced": bool(rollout.rescued.replaced_B[row])} | hinted
