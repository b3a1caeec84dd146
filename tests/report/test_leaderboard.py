"""The leaderboard's numbers, worked out by hand."""

import math

import pytest

from stp.report import figures, leaderboard


def run(experiment="method_espo", seed=0, final=0.5, sampler="standard", curve=(), seconds=100.0, updates=80, **changes):
    """A run as `stp.report.runs.load_runs` gives it. curve: right answers of 100 by update."""
    settings = {"task": "countdown", "trainer.updates": updates, "trainer.eval_split": "test", "problems": 100}
    return {
        "task": "countdown",
        "experiment": experiment,
        "sampler": sampler,
        "estimator": "elbo",
        "rescue": "none",
        "seed": seed,
        "finished": f"2026-01-0{seed + 1}",
        "settings": settings | {"problems.hash": "p"},
        "seedless_hash": f"{experiment}{sampler}",
        "base": {"accuracy": 0.2, "total": 100},
        "final": {"accuracy": final, "total": 100},
        "time": {"cpu_s": seconds},
        "forwards_per_rollout": 40.0,
        "curve": {str(u): c for u, c in curve} or {"0": 20, str(updates): round(100 * final)},
    } | changes


def board(*runs):
    return {f"{p.method}, {p.sampler}": p for p in leaderboard.places(list(runs)).get("countdown", [])}


def plain(*runs):
    """The board of runs that all have the standard sampler, by method."""
    return {place.method: place for place in leaderboard.places(list(runs)).get("countdown", [])}


def test_means_intervals_and_the_frontier():
    found = plain(
        *(run(seed=i, final=f, seconds=90 + 10 * i) for i, f in enumerate((0.5, 0.6, 0.7))),
        *(run("method_d1", i, final=0.7, seconds=50.0) for i in range(2)),
        run("method_wd1", final=0.3, seconds=20.0),
    )
    assert list(found) == ["d1", "espo", "wd1"]  # the most accurate first
    espo = found["espo"]
    assert (espo.seeds, espo.accuracy, espo.seconds, espo.forwards) == (3, pytest.approx(60), 100, 40)
    assert espo.std == pytest.approx(10) and espo.half == pytest.approx(4.303 * 10 / math.sqrt(3))
    assert [p.frontier for p in found.values()] == [True, False, True]  # d1 is both faster and better than espo
    assert found["wd1"].half is None


def test_updates_to_the_goal_and_runs_that_fall_back():
    """The goal lies half-way between the base, 20 %, and the best method's mean, 60 %."""
    found = plain(
        run(seed=0, final=0.6, curve=((0, 20), (20, 39), (40, 41), (80, 60))),
        run(seed=1, final=0.6, curve=((0, 20), (20, 50), (40, 55), (80, 60))),
        run("method_d1", 0, final=0.25, curve=((0, 20), (20, 60), (40, 50), (80, 25))),  # lost 35 of 40 points
        run("method_d1", 1, final=0.42, curve=((0, 20), (20, 60), (40, 50), (80, 42))),  # lost 18 of 40
        run("method_wd1", 0, final=0.18, curve=((0, 20), (20, 24), (40, 20), (80, 18))),  # had gained 4
    )
    assert found["espo"].goal == 30 and found["espo"].fell == (0, 2)  # 40 and 20 updates
    assert found["d1"].goal == 20 and found["d1"].fell == (1, 2)
    assert found["wd1"].goal is None and found["wd1"].fell == (0, 0)
    assert [found[name].lost for name in ("espo", "d1", "wd1")] == pytest.approx([0, (35 + 18) / 2, 6])


def test_runs_that_were_evaluated_at_the_ends_alone_say_nothing_of_the_way():
    found = plain(run(), run("method_d1"))
    assert {(p.goal, p.fell, p.lost) for p in found.values()} == {(None, None, None)}


def test_rollouts_are_told_apart_and_other_sizes_left_out():
    found = board(run(), run(seed=1), run(sampler="adaptive"), run("method_d1", updates=40))
    assert list(found) == ["espo, standard", "espo, adaptive"]


def test_runs_of_other_lengths_have_a_board_of_their_own():
    short, long = ([run(), run("method_d1")], [run(name, updates=120) for name in ("method_espo", "method_d1")])
    boards = leaderboard.places([*short, run(seed=1), *long])
    assert {name: len(board) for name, board in boards.items()} == {"countdown": 2, "countdown, 120 updates": 2}
    other = [run(name, settings={"task": "countdown", "trainer.updates": 120}) for name in ("method_espo", "method_d1")]
    assert leaderboard.places([*short, run(seed=1), *long, run(seed=2, updates=120), *other]).keys() == boards.keys()


def test_a_seed_counts_once_and_one_method_is_no_board():
    assert plain(run(), run("method_d1", final=0.1), run(final=0.9, finished="2027"))["espo"].accuracy == 90
    assert leaderboard.places([run(), run(seed=1)]) == {}


def test_a_method_has_one_name_in_all_tables_and_on_all_tasks():
    names = [
        "table2_countdown_grpo_elbo",
        "table2_gsm8k_diffu_grpo",
        "table3_spg",
        "table1_unigrpo_stp",
        "method_math_of_my_own",
        "my_table2_d1",
    ]
    assert set(plain(*map(run, names))) == {"grpo_elbo", "diffu_grpo", "spg", "unigrpo_stp", "of_my_own", "my_table2_d1"}
    presets = [run("table3_spg", seed, final=0.5) for seed in (0, 1)] + [run("method_spg", final=0.9)]
    assert plain(*presets, run())["spg"].accuracy == 50  # of two settings those with more seeds


def test_presets_of_equal_settings_are_one_method():
    twin = run("table3_spg", seedless_hash="method_espostandard")
    assert set(plain(twin, run(), run("method_d1"))) == {"d1", "espo"}


def test_parts_of_stp_have_tables_of_their_own():
    parts = [run(f"{name}_stp") for name in leaderboard.ABLATIONS]
    assert set(plain(*parts, run("table2_countdown_stp"), run())) == {"espo", "stp"}


def test_points_are_over_the_baseline_with_the_same_rollouts_seed_by_seed():
    def baseline(*finals, sampler="standard"):
        return [run("table2_countdown_grpo_elbo", seed, final, sampler) for seed, final in enumerate(finals)]

    ours = [run(seed=seed, final=final) for seed, final in ((1, 0.6), (2, 0.7), (9, 0.1))]
    adaptive = [run(seed=1, final=0.6, sampler="adaptive"), run("method_d1", 1, 0.6, "stp")]
    found = board(*baseline(0.9, 0.5, 0.4), *baseline(0.0, 0.55, sampler="adaptive"), *ours, *adaptive)
    assert found["espo, standard"].points == pytest.approx((20, 20 - 127.06, 20 + 127.06))  # 10 and 30: the seeds of both
    assert found["espo, adaptive"].points == pytest.approx((5, None, None))
    assert found["d1, stp"].points == pytest.approx((10, None, None))  # no baseline has such rollouts: the standard one
    assert found["grpo_elbo, standard"].points is None and found["grpo_elbo, adaptive"].points is None
    assert all(place.points is None for place in plain(*ours, run("method_d1")).values())  # no baseline at all
    text = leaderboard.markdown({"countdown": list(found.values())})
    assert "| standard | 3 | 46.7 ± 32.1 | +20.0 [-107.1, +147.1] |" in text


def test_it_is_written_and_drawn(pictures, tmp_path):
    boards = leaderboard.places([run(), run(seed=1, final=0.6), run("method_d1", final=0.7, seconds=50.0)])
    text = leaderboard.markdown(boards)
    assert (
        "| **d1** | standard | 1 | 70.0 |  | 50 | 40.0 | - | - | - |" in text and "| espo | standard | 2 | 55.0 ± 7.1 |" in text
    )
    figures.board(boards, tmp_path / "board.png")
    assert (tmp_path / "board.png").stat().st_size > 5_000


def test_a_method_has_one_mark_which_is_hollow_where_rollouts_adapt(drawn, tmp_path):
    many = [run(f"method_{i:02}", final=i / 40) for i in range(32)]
    elsewhere = [
        run("method_31", sampler="adaptive", task="sudoku", seedless_hash="a"),
        run("method_30", task="sudoku", seedless_hash="b"),
    ]
    figures.board(leaderboard.places([*many, *elsewhere]), tmp_path / "board.png")
    here, there = ([bar.lines[0] for bar in axes.containers] for axes in drawn[0].axes[:2])
    looks = [[(point.get_marker(), point.get_color()) for point in points] for points in (here, there)]
    assert len(set(looks[0])) == len(here) == 32 and set(looks[1]) == set(looks[0][:2])  # the best two of 32 stand first
    assert sorted(point.get_markerfacecolor() == "none" for point in (*here, *there)) == [False] * 33 + [True]
    assert drawn[0].legends[0].get_title().get_text() == "hollow: rollouts that adapt" and len(drawn[0].legends[0].texts) == 32
