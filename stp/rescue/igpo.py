"""IGPO (Zhao et al., arXiv 2509.10396): where all completions are wrong, parts of a solution help."""

import math
from dataclasses import dataclass, field, replace
from decimal import Decimal

import torch
from torch import Tensor

from stp.diffusion import Denoiser, forward_process, top_per_row
from stp.errors import require
from stp.rescue.base import Rescue, Retake
from stp.types import Draws, Rescued, Rollout, Trajectory


@dataclass
class Igpo(Rescue):
    """Rolls out a group whose completions are all wrong again, with chunks of a solution as hints, and keeps right ones.

    Each completion of the second rollout gets its own share of the solution's chunks as fixed tokens. Right ones replace wrong
    ones of the first rollout, up to a share of the group; if none is right, nothing changes. Wrong ones are never kept.

    A hint is taught where the model is least sure of it: among a completion's hints, the share of highest entropy counts as the
    completion's own tokens from then on. The other hints stay fixed: they are never masked and never scored.
    """

    share: list[float] = field(
        default_factory=lambda: [0.2, 0.6],
        metadata={"help": "eta: a completion gets a share of the solution's chunks as hints, uniform between these two"},
    )
    chunk: list[int] = field(default_factory=lambda: [5, 10], metadata={"help": "tokens of a chunk, uniform between these two"})
    replace: float = field(
        default=0.5, metadata={"help": "share of a group that right hinted completions may replace (at least one)"}
    )
    entropy_share: float = field(
        default=0.2, metadata={"help": "share of a completion's hints that is taught (at least one), by entropy; 0: none"}
    )

    def __post_init__(self) -> None:
        fits = len(self.share) == 2 and 0 < self.share[0] <= self.share[1] <= 1
        require(fits, "rescue.share", self.share, "give the least and the largest share, in (0, 1]; the paper uses [0.2,0.6]")
        fits = len(self.chunk) == 2 and 1 <= self.chunk[0] <= self.chunk[1]
        require(fits, "rescue.chunk", self.chunk, "give the least and the largest number of tokens; the paper uses [5,10]")
        rule = "a wrong completion must stay beside the right ones: choose a share in (0, 1); the paper uses 0.5"
        require(0 < self.replace < 1, "rescue.replace", self.replace, rule)
        require(0 <= self.entropy_share <= 1, "rescue.entropy_share", self.entropy_share, "a share lies in [0, 1]")

    @property
    def needs_solutions(self) -> bool:
        return True

    def __call__(self, rollout: Rollout, retake: Retake) -> Rollout:
        draws, nothing_BL = retake.draws.again("igpo"), torch.zeros_like(rollout.trajectory.fixed_BL)
        kept = replace(rollout, rescued=Rescued(rollout, 0, 0, nothing_BL.any(dim=1), nothing_BL))
        wrong_N = ~rollout.correct_B.view(-1, retake.group_size).any(dim=1)
        if not retake.ranks.largest(float(wrong_N.any())):
            return kept
        hinted_BL = self.hints(retake.solutions().eligible_BL, draws)
        hopeful_B = wrong_N.repeat_interleave(retake.group_size) & hinted_BL[retake.mine].any(dim=1)
        rows_R = hopeful_B.nonzero().squeeze(1)
        with retake.generation() as policy:  # all ranks meet here, also one that has no group to roll out
            if not len(rows_R):
                return kept
            again = retake.roll(policy, rows_R, draws, hinted_BL)
            right_R, place_R = self.choose(again.correct_B, draws.select(retake.mine[rows_R]), retake.group_size)
            places_R = rows_R[place_R]
            mended = rollout.patched(places_R, again, right_R)
            taught = self.taught(policy, mended.trajectory.rows(places_R))
        given_RL = again.trajectory.fixed_BL & again.trajectory.until_eos_BL
        rescued = Rescued(
            first=rollout,
            groups=len(rows_R) // retake.group_size,
            forwards=int(again.trajectory.nfe_B.sum()) + 2 * len(places_R) * (self.entropy_share > 0),
            replaced_B=nothing_BL.any(dim=1).index_fill(0, places_R, True),
            hinted_BL=nothing_BL.index_copy(0, places_R, given_RL[right_R]),
        )
        return replace(mended, trajectory=mended.trajectory.patched(places_R, taught), rescued=rescued)

    def hints(self, eligible_BL: Tensor, draws: Draws) -> Tensor:
        """Returns hinted_BL: in each row the tokens of ceil(eta * n) of the n chunks of its solution, drawn uniformly.

        The rows of a group cut the solution in different places.
        """
        least, most = self.chunk
        size_BL = least + (draws.uniform("chunk sizes", 0, eligible_BL.shape[1]) * (most - least + 1)).long()
        key_BL = draws.uniform("chunks", 0, eligible_BL.shape[1])
        eta_B = self.share[0] + (self.share[1] - self.share[0]) * draws.uniform("share", 0)
        hinted_BL = torch.zeros_like(eligible_BL)
        for b, eta in enumerate(eta_B.tolist()):
            chunks = cut(eligible_BL[b], size_BL[b].tolist(), least)
            for i in key_BL[b, : len(chunks)].argsort()[: math.ceil(eta * len(chunks))].tolist():
                hinted_BL[b, chunks[i]] = True
        return hinted_BL

    def choose(self, right_R: Tensor, draws: Draws, group_size: int) -> tuple[Tensor, Tensor]:
        """Returns the right rows that are kept, and the rows whose place they take.

        If too many of a group are right, a uniform draw decides. They take the first places of the group, whose completions are
        all wrong.
        """
        right_NG = right_R.view(-1, group_size)
        most = max(1, int(Decimal(str(self.replace)) * group_size))
        count_N = right_NG.sum(dim=1).clamp(max=most)
        kept_NG = top_per_row(draws.uniform("kept", 0).view_as(right_NG), right_NG, count_N)
        place_NG = torch.arange(group_size) < count_N[:, None]
        return kept_NG.flatten().nonzero().squeeze(1), place_NG.flatten().nonzero().squeeze(1)

    @torch.no_grad()
    def taught(self, denoise: Denoiser, trajectory: Trajectory) -> Trajectory:
        """Returns the rows, with the hints that the model is least sure of as own tokens, revealed in the first forward.

        The entropy is that of the state in which the whole response is masked, hints too. Rows are taken one by one, because
        the logits of many would fill the memory.
        """
        fixed_BL, step_BL, logp_BL = (t.clone() for t in (trajectory.fixed_BL, trajectory.step_BL, trajectory.logp_BL))
        for b in range(len(fixed_BL)):
            row = trajectory.rows(slice(b, b + 1))
            hint_M = (row.fixed_BL & row.until_eos_BL)[0].nonzero().squeeze(1)
            if not len(hint_M) or self.entropy_share == 0:
                continue
            blank = replace(row, fixed_BL=torch.zeros_like(row.fixed_BL))
            entropy_M = torch.special.entr(at_first(denoise, blank, hint_M).float().softmax(dim=1)).sum(dim=1)
            count = max(1, int(Decimal(str(self.entropy_share)) * len(hint_M)))
            taught_M = hint_M[entropy_M.argsort(descending=True, stable=True)[:count]]
            fixed_BL[b, taught_M], step_BL[b, taught_M] = False, 0
            row = replace(row, fixed_BL=fixed_BL[b : b + 1])
            logp_BL[b, taught_M] = at_first(denoise, row, taught_M, row.response_BL[0, taught_M])
        return replace(trajectory, fixed_BL=fixed_BL, step_BL=step_BL, logp_BL=logp_BL)


def cut(eligible_L: Tensor, sizes: list[int], least: int) -> list[slice]:
    """Cuts each run of eligible tokens into chunks of these sizes. The rest of a run is a chunk if it has `least` tokens."""
    chunks: list[slice] = []
    begin = 0
    eligible = [*eligible_L.tolist(), False]
    while begin < len(eligible):
        if not eligible[begin]:
            begin += 1
            continue
        size = min(sizes[len(chunks)], eligible.index(False, begin) - begin)
        chunks += [slice(begin, begin + size)] if size >= least else []
        begin += size
    return chunks


def at_first(denoise: Denoiser, row: Trajectory, place_M: Tensor, target_M: Tensor | None = None) -> Tensor:
    """Returns what the model predicts at places of one row's response while all but its fixed tokens is masked.

    That is logits_MV, or with `target_M` the log-probabilities of those tokens, logp_M.
    """
    device = getattr(denoise, "device", "cpu")
    row = replace(row, prompts=row.prompts.trimmed()).to(device)
    ids_BS = forward_process(row, torch.ones_like(row.fixed_BL), denoise.mask_id)
    index_M = (row.prompts.ids_BP.shape[1] + place_M).to(device)
    targets = None if target_M is None else target_M.to(device)
    return denoise(ids_BS, row.prompts.attend(row.response_BL.shape[1]), index_M, targets).to("cpu")
