"""Rollouts by threshold through the commands: training, resuming, evaluating, the page of a rollout."""

import json
import shutil
from statistics import mean

import pytest
import torch

from stp.evaluate.evaluate import main
from stp.run.files import read_jsonl
from stp.samplers import Adaptive, Standard, Stp
from stp.trace.trace import denoise_row
from stp.types import Draws
from tests.config import composed
from tests.integration.runs import metrics, run, weights
from tests.toys import EOS, Recording, anchors, in_context, prompts

KEEP = ["sampler=adaptive", "sampler.gamma_max=0", "trainer.checkpoint_every=1", "trainer.probe_every=0", "trainer.eval_size=0"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two updates with sampler=adaptive: its folder and its summary."""
    folder = tmp_path_factory.mktemp("adaptive") / "whole"
    return folder, run(folder, *KEEP)


def test_a_run_that_was_killed_ends_with_the_same_bits(whole, tmp_path):
    folder, _ = whole
    cut = tmp_path / "cut"
    shutil.copytree(folder, cut, ignore=shutil.ignore_patterns("weights", "summary.json", "update-000002"))
    (cut / "checkpoints" / "latest").write_text("update-000001")
    run(tmp_path / "unused", *KEEP, f"trainer.resume={cut}")
    assert metrics(cut) == metrics(folder)
    assert all(torch.equal(a, b) for a, b in zip(weights(cut).values(), weights(folder).values(), strict=True))


def test_metrics_and_summary_count_the_forwards_of_rows(whole):
    """The schedule's 12 forwards are nowhere: each row has its own count, and the batch runs until the slowest is done."""
    folder, summary = whole
    for line in metrics(folder):
        assert 1 <= line["nfe/q25"] <= line["nfe/median"] <= line["nfe/q75"] <= line["nfe/max"] <= line["nfe/run"] <= 13
        assert line["nfe"] < 12 and line["nfe/max"] == int(line["nfe/max"])
    assert summary["forwards_per_rollout"] == mean(line["nfe"] for line in metrics(folder))
    assert summary["forwards"]["max"] == max(line["nfe/max"] for line in metrics(folder))


def test_an_evaluation_is_by_the_schedule_unless_the_command_line_says_otherwise(whole, tmp_path):
    folder, _ = whole
    asked = [f"checkpoint={folder}", "size=4", "temperatures=[0]"]
    main(composed("evaluate", f"to={tmp_path / 'schedule'}", *asked))
    main(composed("evaluate", f"to={tmp_path / 'threshold'}", *asked, "sampler.reveal=threshold", "sampler.tau=0.5"))
    by_schedule, by_threshold = (read_jsonl(tmp_path / name / "eval.jsonl") for name in ("schedule", "threshold"))
    assert not any("forwards" in record for record in by_schedule) and all(r["forwards"] < 12 for r in by_threshold)
    found = json.loads((tmp_path / "threshold" / "summary.json").read_text())
    assert found["T=0"]["forwards"]["mean"] == mean(record["forwards"] for record in by_threshold)
    assert found["sampler"] == {"length": 24, "steps": 6, "block_length": 8, "reveal": "threshold", "tau": 0.5}


@pytest.mark.parametrize("eos", [-torch.inf, 1.0])
@pytest.mark.parametrize(
    "sampler",
    [
        Standard(12, 12, 4, 1.0, reveal="threshold", tau=0.3),
        Adaptive(12, 12, 4, 0.0, t_cutoff=0.3, tau=0.35),
        Stp(12, 12, 4, 1.0, gamma=0.25, t_cutoff=0.2, reveal="threshold", tau=0.3),
    ],
    ids=str,
)
def test_the_page_shows_what_happened(sampler, eos):
    earlier, draws = anchors(3, 12, [list(range(12)), [0, 3, 4, 5, 10], []]), Draws(3, 3)
    denoise, fills = in_context(12, seed=1, eos=eos), 0
    together, start = sampler(denoise, prompts(3), draws, earlier), sampler.start(earlier, draws)
    for row in range(3):
        watched = Recording(denoise)
        done = denoise_row(watched, sampler, prompts(3), start, draws, row)
        assert done.ids_L == together.response_BL[row].tolist()
        assert done.nfe_run == len(watched.calls) == int(together.nfe_B[row])
        shown = [-1 if forward in (None, 0) else forward - 1 for forward in done.forward_L]
        assert shown == together.step_BL[row].tolist()
        asked = int((watched.calls[-1].ids_BS == denoise.mask_id).sum())
        assert done.fill == (done.nfe_run if 0 < asked <= start.keep else None)
        assert [end for _, end, _ in done.windows] == [4, 8, 12]
        fills += done.fill is not None
        assert done.fill is None or EOS not in done.ids_L[:4] or done.until_eos > 4
    assert eos > 0 or bool(fills) == start.fill
