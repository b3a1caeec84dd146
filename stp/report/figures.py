"""Draws the report's pictures with matplotlib: Figure 3, heat maps, learning curves, phases, reliability."""

import math
import textwrap
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import mean, median, quantiles, stdev
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter

from stp.report.calibration import Part
from stp.report.intervals import mean_interval
from stp.report.leaderboard import Place
from stp.report.strength import Point

matplotlib.use("Agg")
from matplotlib import pyplot as plt

Run = dict[str, Any]
Pens = dict[str, dict[str, Any]]  # how the lines of each method are drawn

# the colours of Okabe and Ito, which colour-blind readers tell apart
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C8C")
DASHES = ("-", "--", ":", "-.")
MARKS = dict(zip(DASHES, "osD^", strict=True))  # where a method is a point and no line
plt.rcParams["axes.prop_cycle"] = plt.cycler(color=COLOURS)


def pens(methods: Iterable[str]) -> Pens:
    """Gives each method a colour and a dash, in order. methods: their names, or `seedless_hash`; one may come again."""
    return {
        method: {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[i // len(COLOURS) % len(DASHES)]}
        for i, method in enumerate(dict.fromkeys(methods))
    }


def variance(groups: dict[str, list[Run]], known: Pens, to: Path) -> None:
    """Draws Figure 3: the ELBO's variance over updates (median and quartiles over trajectories), and its distribution."""
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    everything: dict[str, list[float]] = {}
    for name, runs in groups.items():
        pen, by_update = known[runs[0]["seedless_hash"]], defaultdict[int, list[float]](list)
        for run in runs:
            for record in run["probes"]:
                if record["variance"] is not None:  # the variance overflowed
                    by_update[record["update"]].append(record["variance"])
        everything[f"{name}\n({len(runs)} seeds)"] = [v for values in by_update.values() for v in values]
        updates = sorted(by_update)
        axes.plot(updates, [median(by_update[u]) for u in updates], **pen, linewidth=2, label=name)
        banded = [u for u in updates if len(by_update[u]) > 1]
        low, high = ([quantiles(by_update[u], n=4)[q] for u in banded] for q in (0, 2))
        axes.fill_between(banded, low, high, color=pen["color"], alpha=0.2, linewidth=0)
    axes.set(yscale="log", xlabel="update", ylabel="ELBO variance (log scale)", title="median and quartiles of trajectories")
    axes.legend(frameon=False)
    _save(figure, to / "figure3a.png", [axes])
    figure, axes = plt.subplots(figsize=(4, 3.6), layout="constrained")
    axes.boxplot(list(everything.values()), tick_labels=list(everything), showfliers=False, widths=0.5)
    axes.set(ylabel="ELBO variance", title="all probed trajectories\n(whiskers at 1.5 IQR, outliers hidden)")
    _save(figure, to / "figure3b.png", [axes])


def heat_map(cells: dict[tuple[float, float], list[Run]], path: Path) -> list[dict[str, Any]]:
    """Draws accuracy, training time and ELBO variance over gamma and t_cutoff. Cells without a run stay empty.

    Returns the values as rows.
    """
    gammas, cutoffs = (sorted({place[i] for place in cells}) for i in (0, 1))
    panels = {
        "accuracy": ("accuracy (%)", ".1f", "viridis"),
        "train_s": ("training time (s)", ".0f", "viridis_r"),
        "variance": ("ELBO variance, median", ".0f", "viridis_r"),
    }
    rows = [
        {
            "gamma": gamma,
            "t_cutoff": cutoff,
            "seeds": len(runs),
            "accuracy": mean(100 * run["final"]["accuracy"] for run in runs),
            "train_s": mean([run["seconds"] for run in runs if run["seconds"] is not None] or [math.nan]),
            "variance": mean((run["elbo_variance"] or {}).get("median", math.nan) for run in runs),
            "forwards": mean(run["forwards_per_rollout"] for run in runs),
        }
        for (gamma, cutoff), runs in sorted(cells.items())
    ]
    figure, grid = plt.subplots(1, len(panels), figsize=(3.6 * len(panels), 3.2), layout="constrained")
    for axes, (key, (name, form, colours)) in zip(grid, panels.items(), strict=True):
        values = [[math.nan] * len(cutoffs) for _ in gammas]
        for row in rows:
            i, j = gammas.index(row["gamma"]), cutoffs.index(row["t_cutoff"])
            values[i][j] = row[key]
            if math.isnan(row[key]):
                continue
            behind = {"facecolor": "white", "alpha": 0.7, "linewidth": 0}
            axes.text(j, i, format(row[key], form), ha="center", va="center", bbox=behind)
        axes.set_facecolor("lightgrey")
        axes.imshow(values, cmap=colours, aspect="auto", origin="lower")
        axes.set(xlabel="t_cutoff", ylabel="gamma", title=name)
        axes.set_xticks(range(len(cutoffs)), [f"{c:g}" for c in cutoffs])
        axes.set_yticks(range(len(gammas)), [f"{g:g}" for g in gammas])
    _save(figure, path, [])
    return rows


def learning_curves(groups: dict[str, dict[str, list[Run]]], known: Pens, path: Path) -> None:
    """Draws a panel per table with the reward of each update: the mean over seeds, and its 95 % interval as a band."""
    figure, panels = _panels(len(groups), 4.5, 3.2, sharey=True)
    for axes, (name, rows) in zip(panels, groups.items(), strict=True):
        for label, runs in rows.items():
            _curve(axes, runs, known[runs[0]["seedless_hash"]], label)
        axes.set(xlabel="update", ylabel="mean reward")
        axes.set_title(name, fontsize="medium")
        axes.legend(frameon=False, fontsize="x-small")
    _save(figure, path, panels)


def phases(by_preset: dict[str, list[Run]], names: tuple[str, ...], path: Path) -> None:
    """Draws the mean seconds of each phase, stacked, for each preset."""
    figure, axes = plt.subplots(figsize=(8, 1 + 0.28 * len(by_preset)), layout="constrained")
    labels = list(by_preset)[::-1]
    left = [0.0] * len(labels)
    for i, name in enumerate(names):
        widths = [mean(run["time"].get(f"{name}_s", 0.0) for run in by_preset[label]) for label in labels]
        axes.barh(labels, widths, left=left, color=f"C{i}", label=name)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.set(xlabel="seconds")
    axes.tick_params(axis="y", labelsize="small")
    figure.legend(loc="outside lower center", ncols=len(names), frameon=False, fontsize="small")
    _save(figure, path, [axes])


def methods(runs: list[Run], to: Path) -> None:
    """Draws learning_curves.png, a panel per method with the others in grey, and accuracy.png, held-out, before and after."""
    by_method: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_method[run["method"]].append(run)
    figure, panels = _panels(len(by_method), 4.2, 2.6)
    everyone = _averages(by_method.values())
    for axes, (name, members) in zip(panels, by_method.items(), strict=True):
        axes.plot(*everyone, color="lightgrey", linewidth=1)
        _curve(axes, members, {"color": COLOURS[0]}, "mean")
        axes.set_title(_wrapped(f"{name} ({len(members)} seeds)", 58), fontsize="x-small")
        axes.tick_params(labelsize="small")
    low, high = zip(*(axes.get_ylim() for axes in panels), strict=True)
    for axes in panels:  # shared axes would do the same, in time that grows with the square of the panels
        axes.set_ylim(min(low), max(high))
    figure.supxlabel("update", fontsize="small")
    figure.supylabel("mean reward over seeds, with its 95 % interval (grey: the other methods)", fontsize="small")
    _save(figure, to / "learning_curves.png", panels)

    labels = [_wrapped(name, 70) for name in by_method]
    height = 1.2 + sum(0.2 + 0.14 * (1 + label.count("\n")) for label in labels)
    figure, axes = plt.subplots(figsize=(9, height), layout="constrained")
    for i, members in enumerate(by_method.values()):
        for when, colour, what in (("base", "grey", "before"), ("final", COLOURS[0], "after")):
            percents = [100 * run[when]["accuracy"] for run in members]
            spread = stdev(percents) if len(percents) > 1 and when == "final" else None
            axes.errorbar(mean(percents), i, xerr=spread, fmt="o", color=colour, capsize=3, label=None if i else what)
    axes.set_yticks(range(len(labels)), labels, fontsize="x-small")
    axes.set(ylim=(len(labels) - 0.5, -0.5), xlabel="held-out accuracy (%), ± standard deviation over seeds")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper right", ncols=2, frameon=False, fontsize="small")
    _save(figure, to / "accuracy.png", [axes])


def board(boards: dict[str, list[Place]], path: Path) -> None:
    """Draws a panel per board: accuracy with its 95 % interval over processor seconds. A line joins the frontier.

    A method has one mark on all boards, which is hollow where it trains with the adaptive sampler.
    """
    every = [place for places in boards.values() for place in places]
    looks: Pens = {
        method: {"color": pen["color"], "marker": MARKS[pen["linestyle"]], "markersize": 5}
        for method, pen in pens(place.method for place in every).items()
    }
    figure, panels = _panels(len(boards), 3.4, 3, least=6.8, below=1)
    for axes, (task, places) in zip(panels, boards.items(), strict=True):
        edge = sorted((place.seconds, place.accuracy) for place in places if place.frontier)
        axes.plot(*zip(*edge, strict=True), color="lightgrey", linewidth=2, zorder=0)
        for place in places:
            look = looks[place.method] | ({"markerfacecolor": "none"} if place.sampler == "adaptive" else {})
            axes.errorbar(place.seconds, place.accuracy, place.half, linestyle="none", capsize=2, elinewidth=0.8, **look)
        axes.set(xlabel="processor seconds of a run", ylabel="accuracy (%)", title=task, xscale="log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.5)))
    handles = [Line2D([], [], linestyle="none", **look) for look in looks.values()]
    title = "hollow: rollouts that adapt" if any(place.sampler == "adaptive" for place in every) else None
    figure.legend(handles, list(looks), loc="outside lower center", ncols=4, fontsize="x-small", title=title)
    _save(figure, path, panels)


def strength(found: list[Point], path: Path) -> None:
    """Draws a panel per base: STP's points over the standard sampler, with their 95 % interval, over gamma, by anchors."""
    starts = {point.base: point.start for point in found}
    sources = list(dict.fromkeys(point.anchors for point in found))
    size = (3 * len(starts), 3.2)
    figure, grid = plt.subplots(1, len(starts), figsize=size, layout="constrained", sharey=True, squeeze=False)
    for axes, (base, start) in zip(grid.flat, starts.items(), strict=True):
        axes.axhline(0, color="grey", linewidth=1)
        for i, source in enumerate(sources):
            own = [point for point in found if (point.base, point.anchors) == (base, source)]
            beside = [point.gamma + 0.004 * (i - (len(sources) - 1) / 2) for point in own]  # or the bars would hide each other
            halves = [0.0 if point.points[2] is None else point.points[2] - point.points[0] for point in own]
            middles = [point.points[0] for point in own]
            axes.errorbar(beside, middles, halves, fmt="o-", capsize=2, color=COLOURS[i], label=source)
        axes.set(xlabel="gamma", title=f"{base}: {start:.0f} % before")
    grid[0, 0].set_ylabel("points over the standard sampler")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(sources), frameon=False, title="anchors")
    _save(figure, path, list(grid.flat))


def reliability(curves: dict[str, dict[str, list[Part]]], path: Path) -> None:
    """Draws a panel per method: the solve rate of completions over their confidence, at the beginning and at the end."""
    figure, panels = _panels(len(curves), 3.6, 3.2, sharex=True, sharey=True)
    for axes, (method, by_quarter) in zip(panels, curves.items(), strict=True):
        for i, (name, curve) in enumerate(by_quarter.items()):
            x, y = [part.confidence for part in curve], [part.solved for part in curve]
            axes.plot(x, y, marker="o", markersize=4, color=f"C{i}", label=name)
        axes.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
        axes.set(xlabel="confidence of a completion", ylabel="solve rate", ylim=(-0.02, 1.02))
        axes.set_title(_wrapped(method, 48), fontsize="x-small")
        axes.legend(frameon=False, fontsize="x-small")
    low = min(part.confidence for by_quarter in curves.values() for curve in by_quarter.values() for part in curve)
    panels[0].set_xlim(low - 0.05, 1.0)
    _save(figure, path, panels)


def _panels(
    count: int, width: float, height: float, least: float = 0, below: float = 0, **shared: bool
) -> tuple[Figure, list[Axes]]:
    """Makes a figure of panels, three in a line, each of width x height inches. Places that are left over stay empty.

    least: of the figure's width. below: what its height has over, for a legend. shared: `sharex`, `sharey`.
    """
    columns = min(3, count)
    lines = -(-count // columns)
    size = (max(least, width * columns), height * lines + below)
    figure, grid = plt.subplots(lines, columns, figsize=size, layout="constrained", squeeze=False, **shared)
    for axes in list(grid.flat)[count:]:
        axes.set_axis_off()
    return figure, list(grid.flat)[:count]


def _wrapped(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(text, width))


def _averages(groups: Iterable[list[Run]]) -> tuple[list[float], list[float]]:
    """Returns one line, as (updates, rewards), of each group's mean reward over its runs. A gap (nan) parts two groups."""
    x: list[float] = []
    y: list[float] = []
    for runs in groups:
        updates, rewards = _rewards(runs)
        x += [*updates, math.nan]
        y += [*(mean(values) for values in rewards), math.nan]
    return x, y


def _rewards(runs: list[Run]) -> tuple[range, list[list[float]]]:
    """Returns the updates that all runs have, and each run's mean reward at each of them."""
    curves = [[m["reward/mean"] for m in run["metrics"]] for run in runs]
    shortest = min(map(len, curves))
    return range(1, shortest + 1), [[curve[j] for curve in curves] for j in range(shortest)]


def _curve(axes: Axes, runs: list[Run], pen: dict[str, Any], label: str) -> None:
    updates, rewards = _rewards(runs)
    if len(runs) > 1:
        _, low, high = zip(*map(mean_interval, rewards), strict=True)
        axes.fill_between(updates, low, high, color=pen["color"], alpha=0.15, linewidth=0)
    axes.plot(updates, [mean(values) for values in rewards], **pen, linewidth=1.5, label=f"{label} ({len(runs)} seeds)")


def _save(figure: Figure, path: Path, framed: list[Axes]) -> None:
    for axes in framed:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
