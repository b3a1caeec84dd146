"""stp/report/figures.py: what is drawn is what was measured, and no picture is blank."""

import math

import matplotlib.image
import pytest
from matplotlib import pyplot as plt

from stp.report import figures
from stp.report.strength import Point

pytestmark = pytest.mark.usefixtures("pictures")


@pytest.fixture
def run():
    """A run as `stp.report.runs.load_runs` gives it, as far as the figures read it."""

    def make(probes=(), rewards=(0.1, 0.2), accuracy=0.5, seconds=100.0, median=3.0, method="stp + elbo", **phases):
        return {
            "probes": [{"update": update, "variance": v} for update, v in probes],
            "method": method,
            "seedless_hash": method,
            "metrics": [{"reward/mean": r} for r in rewards],
            "base": {"accuracy": 0.25, "total": 100},
            "final": {"accuracy": accuracy, "total": 100},
            "seconds": seconds,
            "time": {"train_s": seconds, **phases},
            "elbo_variance": None if median is None else {"median": median},
            "forwards_per_rollout": 37.0,
        }

    return make


def is_not_blank(path):
    pixels = matplotlib.image.imread(path)
    return len({tuple(pixel) for row in pixels[::3, ::3] for pixel in row.round(2).tolist()}) > 3


def test_figure_3_draws_the_median_and_quartiles(run, drawn, tmp_path):
    standard = run([(1, v) for v in (1.0, 2.0, 3.0, 4.0)] + [(5, 10.0)])
    more = run([(5, v) for v in (20.0, 30.0, 40.0)])  # another seed, probed at the same update
    stp = run([(1, v) for v in (0.5, 1.0, 1.5)] + [(5, v) for v in (2.0, 4.0, 6.0)])
    figures.variance({"GRPO w/ ELBO": [standard, more], "STP": [stp]}, figures.pens(["stp + elbo"]), tmp_path)
    lines, boxes = drawn
    assert lines.axes[0].get_yscale() == "log"
    curves = {line.get_label(): line.get_xydata().tolist() for line in lines.axes[0].get_lines()}
    assert curves == {"GRPO w/ ELBO": [[1, 2.5], [5, 25.0]], "STP": [[1, 1.0], [5, 4.0]]}
    band = lines.axes[0].collections[1].get_paths()[0].vertices  # STP's quartiles
    assert (band[:, 1].min(), band[:, 1].max()) == (0.5, 6.0)
    assert [tick.get_text() for tick in boxes.axes[0].get_xticklabels()] == ["GRPO w/ ELBO\n(2 seeds)", "STP\n(1 seeds)"]
    medians = [line.get_ydata()[0] for line in boxes.axes[0].get_lines() if len(set(line.get_ydata())) == 1]
    assert {7.0, 1.75} <= set(medians)  # of 1, 2, 3, 4, 10, 20, 30, 40 and of 0.5, 1, 1.5, 2, 4, 6
    assert is_not_blank(tmp_path / "figure3a.png") and is_not_blank(tmp_path / "figure3b.png")


def test_the_heat_map_leaves_missing_places_empty(run, drawn, tmp_path):
    places = {
        (0.0, 0.0): [run(accuracy=0.2, seconds=100), run(accuracy=0.4, seconds=200, median=5.0)],
        (0.05, 0.05): [run(accuracy=0.5, seconds=80)],
        (0.1, 0.0): [run(accuracy=0.6, seconds=70, median=None)],
    }
    rows = figures.heat_map(places, tmp_path / "heatmap.png")
    assert [(r["gamma"], r["t_cutoff"], r["seeds"], round(r["accuracy"], 9), r["train_s"]) for r in rows] == [
        (0.0, 0.0, 2, 30.0, 150.0),
        (0.05, 0.05, 1, 50.0, 80.0),
        (0.1, 0.0, 1, 60.0, 70.0),
    ]
    assert [r["variance"] for r in rows[:2]] == [4.0, 3.0] and math.isnan(rows[2]["variance"])
    accuracy, seconds, _ = drawn[0].axes
    values = accuracy.get_images()[0].get_array()
    assert values.filled(math.nan).round(6).tolist()[0][0] == 30 and values.mask.tolist() == [
        [False, True],
        [True, False],
        [False, True],
    ]
    assert {text.get_text() for text in accuracy.texts} == {"30.0", "50.0", "60.0"}
    assert {text.get_text() for text in seconds.texts} == {"150", "80", "70"}
    assert [label.get_text() for label in accuracy.get_yticklabels()] == ["0", "0.05", "0.1"]
    assert [label.get_text() for label in accuracy.get_xticklabels()] == ["0", "0.05"]
    assert accuracy.get_images()[0].origin == "lower" and is_not_blank(tmp_path / "heatmap.png")


def test_learning_curves_average_the_seeds(run, drawn, tmp_path):
    ours = [run(rewards=(0.0, 0.2, 0.4)), run(rewards=(0.2, 0.4))]
    group = {"STP (ours)": ours, "GRPO w/ ELBO": [run(rewards=(0.1, 0.1), method="standard + elbo")]}
    panels = {"Table 5": group, "Table 6": {"0.05": group["STP (ours)"]}}
    figures.learning_curves(panels, figures.pens(["stp + elbo", "standard + elbo"]), tmp_path / "curves.png")
    first, second = drawn[0].axes[:2]
    bold = {line.get_label(): line.get_ydata() for line in first.get_lines() if not line.get_label().startswith("_")}
    assert list(bold) == ["STP (ours) (2 seeds)", "GRPO w/ ELBO (1 seeds)"]
    assert bold["STP (ours) (2 seeds)"] == pytest.approx([0.1, 0.3])  # as far as both went
    (band,) = first.collections  # a single seed has none
    low, high = (pick(band.get_paths()[0].vertices[:, 1]) for pick in (min, max))
    half = 12.706 * 2**0.5 * 0.1 / 2**0.5  # Student's t with one degree of freedom; the deviation of two values 0.2 apart
    assert (low, high) == pytest.approx((0.1 - half, 0.3 + half))
    colours = [axes.get_lines()[0].get_color() for axes in (first, second)]
    assert colours[0] == colours[1] != first.get_lines()[1].get_color()  # a method keeps its colour
    assert (first.get_title(), second.get_title()) == ("Table 5", "Table 6")
    assert is_not_blank(tmp_path / "curves.png")


def test_phases_stack_to_the_whole_time(run, drawn, tmp_path):
    by_preset = {
        "table5_stp": [run(sample_s=10.0, update_s=4.0), run(sample_s=20.0, update_s=6.0)],
        "table5_grpo_elbo": [run(sample_s=30.0)],  # an older run, without the other phase
    }
    figures.phases(by_preset, ("sample", "update"), tmp_path / "phases.png")
    bars = [(round(b.get_x(), 6), round(b.get_width(), 6)) for bars in drawn[0].axes[0].containers for b in bars]
    assert bars == [(0, 30), (0, 15), (30, 0), (15, 5)]  # from the bottom: the last preset, then the first
    assert [label.get_text() for label in drawn[0].axes[0].get_yticklabels()] == ["table5_grpo_elbo", "table5_stp"]
    assert is_not_blank(tmp_path / "phases.png")


def test_each_method_has_a_panel_and_a_line_of_its_own(run, drawn, tmp_path):
    runs = [run(accuracy=0.4), run(accuracy=0.6), run(accuracy=0.3, method="standard + elbo")]
    figures.methods(runs, tmp_path)
    curves, accuracy = drawn
    assert [axes.get_title() for axes in curves.axes] == ["stp + elbo (2 seeds)", "standard + elbo (1 seeds)"]
    grey, own = ([*map(float, line.get_ydata())] for line in curves.axes[0].lines)
    assert own == grey[: len(own)] and len(grey) == 2 * len(own) + 2  # the means of both methods, and a gap after each
    assert [i for i, reward in enumerate(grey) if math.isnan(reward)] == [len(own), 2 * len(own) + 1]
    (place,) = accuracy.axes
    assert [label.get_text() for label in place.get_yticklabels()] == ["stp + elbo", "standard + elbo"]
    points = [(bar[0].get_xdata()[0], bar[0].get_ydata()[0]) for bar in place.containers]
    assert [(round(x, 6), y) for x, y in points] == [(25, 0), (50, 0), (25, 1), (30, 1)]
    spreads = [bar.has_xerr for bar in place.containers]
    assert spreads == [False, True, False, False]  # over seeds, where there are several
    low, high = place.containers[1][2][0].get_segments()[0][:, 0]
    assert (low, high) == pytest.approx((50 - 200**0.5, 50 + 200**0.5))
    assert is_not_blank(tmp_path / "learning_curves.png") and is_not_blank(tmp_path / "accuracy.png")


def test_many_methods_stay_readable(run, drawn, tmp_path):
    """Twenty long names: no panel shares its axes with another method, and no text runs out of the picture."""
    names = [f"stp + elbo sampler.gamma=0.{i:02d} trainer.group_size=8 trainer.prompts_per_update=12 seed" for i in range(20)]
    figures.methods([run(method=name) for name in names], tmp_path)
    for figure in drawn:
        figure.set_dpi(110)  # as it was saved, and so laid out
        figure.canvas.draw()
        width, height = figure.canvas.get_width_height()
        texts = [axes.title for axes in figure.axes if axes.get_title()] or figure.axes[0].get_yticklabels()
        boxes = [text.get_window_extent() for text in texts]
        assert len(boxes) == 20 and not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
        assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height for box in boxes)


def test_pens_differ_for_as_many_methods_as_the_tables_have():
    pens = figures.pens(f"method {i}" for i in (*range(32), 0))
    assert len({tuple(pen.values()) for pen in pens.values()}) == len(pens) == 32


def test_probes_that_overflowed_are_left_out(run, drawn, tmp_path):
    stp = run([(1, 1.0), (1, None), (1, 3.0)])
    figures.variance({"GRPO w/ ELBO": [stp], "STP": [stp]}, figures.pens(["stp + elbo"]), tmp_path)
    assert [line.get_ydata().tolist() for line in drawn[0].axes[0].get_lines()] == [[2.0], [2.0]]


def test_no_figure_stays_open(run, tmp_path):
    before = plt.get_fignums()
    stp = run([(1, 1.0), (1, 2.0)], sample_s=1.0)
    figures.variance({"GRPO w/ ELBO": [stp], "STP": [stp]}, figures.pens(["stp + elbo"]), tmp_path)
    figures.heat_map({(0.0, 0.0): [stp], (0.1, 0.0): [stp]}, tmp_path / "a.png")
    figures.learning_curves({"Table 5": {"STP": [stp]}}, figures.pens(["stp + elbo"]), tmp_path / "b.png")
    figures.phases({"table5_stp": [stp]}, ("sample",), tmp_path / "c.png")
    figures.methods([stp], tmp_path)
    assert plt.get_fignums() == before and len(list(tmp_path.glob("*.png"))) == 7


def test_strength_has_a_panel_per_base_and_a_line_per_source_of_anchors(drawn, tmp_path):
    def point(base, start, gamma, anchors, middle, half):
        ends = (None, None) if half is None else (middle - half, middle + half)
        return Point(base, start, gamma, anchors, {0: 50.0}, {0: 50.0 + middle}, (middle, *ends))

    found = [
        point("weak", 20.0, 0.05, "model", 3.0, 1.0),
        point("weak", 20.0, 0.1, "model", 5.0, 2.0),
        point("strong", 60.0, 0.05, "model", -1.0, None),
        point("strong", 60.0, 0.05, "correct", 2.0, 1.5),
    ]
    figures.strength(found, tmp_path / "strength.png")
    weak, strong = drawn[0].axes
    assert [axes.get_title() for axes in (weak, strong)] == ["weak: 20 % before", "strong: 60 % before"]
    assert {tuple(line.get_ydata()) for line in weak.lines} >= {(3, 5)}
    assert {tuple(line.get_ydata()) for line in strong.lines} >= {(-1,), (2,)}
    assert (matplotlib.image.imread(tmp_path / "strength.png")[..., :3] < 0.9).any()
