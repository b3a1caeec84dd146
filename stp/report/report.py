"""`python -m stp.report [runs]` makes the paper's Tables 2-7 and Figure 3 from runs, with learning curves and phases."""

import argparse
import csv
import re
import sys
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from stp.errors import UserError
from stp.evaluation.intervals import counts
from stp.report import calibration, claims, estimates, figures, leaderboard, markdown, rollouts, search, strength
from stp.report.intervals import paired_interval
from stp.report.runs import (
    CLOCKS,
    PLACE,
    Run,
    comparable,
    conditions,
    contrast,
    in_words,
    key,
    load_runs,
    name_methods,
    newest,
    presets,
)
from stp.report.tables import BASE, FIGURE_3, TABLES, Cell, Table
from stp.report.variance import DELTA, MEASURES, MISSING, log_means, variance_markdown, variance_pairs, variance_rows

RUN_COLUMNS = ["method", "task", "model", "sampler", "estimator", "seed", "updates", "split", "seedless_hash"]
PHASES = ("sample", "score", "update", "reward", "rescue", "other", "eval", "probe", "checkpoint", "pregenerate")
LEGEND = """\
- Acc.: mean ± standard deviation over seeds (correct answers of each seed), after the last update.
- Time: training seconds, without evaluation and probes ({clock}).
- Baseline: GRPO w/ ELBO, the better of two in Table 2, the row above in Table 3 and in the last one.
- Points: mean difference to it over seeds, with a 95 % interval (Student's t over the seeds; one seed has none).
- `missing`: no finished run.
"""


@dataclass(frozen=True)
class Measured:
    """A cell filled from its runs. Accuracies are in %, changes in % of the best baseline, `points` in percentage points."""

    table: int
    row: str
    task: str
    preset: str
    seeds: int
    split: str = ""
    seedless_hash: str = ""
    correct: str = ""
    total: int = 0
    accuracy: float | None = None
    accuracy_std: float | None = None
    seconds: float | None = None
    seconds_std: float | None = None
    forwards: float | None = None
    accuracy_change: float | None = None
    points: float | None = None
    points_low: float | None = None
    points_high: float | None = None
    seconds_change: float | None = None
    paper_accuracy: float | None = None
    paper_seconds: int | None = None


def measure(table: Table, row: str, task: str, cell: Cell, by_preset: dict[str, list[Run]]) -> Measured:
    """Fills a cell. If no run fills it, everything except the paper's figures stays None."""
    known: dict[str, Any] = {"table": table.number, "row": row, "task": task, "preset": cell.preset}
    known |= {"paper_accuracy": cell.accuracy, "paper_seconds": cell.seconds}
    if cell.preset == BASE:  # all runs start from the same model: one score, not one per seed
        members: list[Run] = []
        results = base_scores(table, task, by_preset)[:1]
    else:
        members = by_preset.get(cell.preset, [])
        results = [run["final"] for run in members]
    if not results:
        return Measured(**known, seeds=0)
    percents, seconds = [100 * score["accuracy"] for score in results], timed(members)
    best = [name for name in cell.baselines if by_preset.get(name) and comparable(members[0], by_preset[name][0])]
    if best:
        rival = max(best, key=lambda name: mean(run["final"]["accuracy"] for run in by_preset[name]))
        times = [mean(timed(by_preset[name])) for name in best if timed(by_preset[name])]
        known["accuracy_change"] = _relative(mean(percents), 100 * mean(r["final"]["accuracy"] for r in by_preset[rival]))
        known["seconds_change"] = _relative(mean(seconds), min(times)) if seconds and times else None
        known |= paired_difference(members, by_preset[rival])
    return Measured(
        **known,
        seeds=len(members),
        split=members[0]["split"] if members else "",
        seedless_hash=members[0]["seedless_hash"] if members else "",
        correct=" ".join(str(score["correct"]) for score in results),
        total=results[0]["total"],
        accuracy=mean(percents),
        accuracy_std=stdev(percents) if len(percents) > 1 else None,
        seconds=mean(seconds) if seconds else None,
        seconds_std=stdev(seconds) if len(seconds) > 1 else None,
        forwards=mean(run["forwards_per_rollout"] for run in members) if members else None,
    )


def base_scores(table: Table, task: str, by_preset: dict[str, list[Run]]) -> list[dict[str, Any]]:
    """Returns the model's scores before training, most frequent first: from the table's own runs of a task, else from any."""
    own = {row.cells[table.tasks.index(task)].preset for row in table.rows}
    runs = [run for group in by_preset.values() for run in group if run["task"] == task]
    bases = [run["base"] for run in runs if run["experiment"] in own] or [run["base"] for run in runs]
    frequent = Counter((base["correct"], base["total"], base["accuracy"]) for base in bases)
    return [dict(zip(("correct", "total", "accuracy"), score, strict=True)) for score, _ in frequent.most_common()]


def timed(runs: list[Run]) -> list[float]:
    """Returns the training seconds of those runs that have them by the chosen clock."""
    return [run["seconds"] for run in runs if run["seconds"] is not None]


def _relative(value: float, reference: float) -> float | None:
    return 100 * (value / reference - 1) if reference else None


def paired_difference(ours: list[Run], theirs: list[Run]) -> dict[str, float | None]:
    """Returns the mean difference in accuracy (points) over common seeds, with its 95 % interval (None for a single seed)."""
    found = paired_interval(*({run["seed"]: 100 * run["final"]["accuracy"] for run in side} for side in (ours, theirs)))
    return dict(zip(("points", "points_low", "points_high"), found, strict=True)) if found else {}


def fill(by_preset: dict[str, list[Run]]) -> dict[int, list[Measured]]:
    """Fills every cell of every table."""
    return {
        table.number: [
            measure(table, " ".join(row.names), task, cell, by_preset)
            for row in table.rows
            for task, cell in zip(table.tasks, row.cells, strict=True)
        ]
        for table in TABLES
    }


def table_markdown(table: Table, cells: list[Measured]) -> str:
    """Returns a table in the paper's layout, with the paper's figures beside ours."""
    wide = len(table.tasks) > 1
    several = [f"{task} " if wide else "" for task in table.tasks]
    compared = not wide and any(cell.baselines for row in table.rows for cell in row.cells)
    paper = any(cell.paper_accuracy is not None for cell in cells)
    heads = list(table.columns)
    for task in several:
        heads += [f"{task}Acc. (%)", f"{task}Time (s)", f"{task}forwards"]
        heads += ["points over the baseline [95 %]", "Acc. change", "Time change"] if compared else []
        heads += [f"{task}paper Acc. (%)", f"{task}paper Time (s)"] if paper else []
    lines = []
    for i, row in enumerate(table.rows):
        texts = list(row.names)
        for cell in cells[i * len(table.tasks) : (i + 1) * len(table.tasks)]:
            texts += [_accuracy(cell), _seconds(cell), _number(cell.forwards, cell, ".0f")]
            if compared:
                texts += [_points(cell), _number(cell.accuracy_change, cell, "+.1f", " %")]
                texts += [_number(cell.seconds_change, cell, "+.1f", " %")]
            if paper:
                texts += [f"{cell.paper_accuracy:.2f}", "-" if cell.paper_seconds is None else f"{cell.paper_seconds:,}"]
        lines.append(texts)
    if wide:  # the last row, as in the paper
        texts = ["Improv. (vs. best baseline)", *[""] * (len(table.columns) - 1)]
        for cell, printed in zip(cells[-len(table.tasks) :], table.rows[-1].cells, strict=True):
            others = [c for c in cells if c.preset in printed.baselines]
            texts += [
                _number(cell.accuracy_change, cell, "+.2f", " %"),
                _number(cell.seconds_change, cell, "+.2f", " %"),
                "",
            ]
            texts += [
                _number(_relative(cell.paper_accuracy or 0, max(c.paper_accuracy or 0 for c in others)), cell, "+.2f", " %"),
                _number(_relative(cell.paper_seconds or 0, min(c.paper_seconds or 0 for c in others)), cell, "+.2f", " %"),
            ]
        lines.append(texts)
    return markdown.table(heads, lines) + "\n"


def _accuracy(cell: Measured) -> str:
    if cell.accuracy is None:
        return MISSING
    spread = f" ± {cell.accuracy_std:.1f}" if cell.accuracy_std is not None else ""
    return f"{cell.accuracy:.1f}{spread} ({cell.correct.replace(' ', ', ')} of {cell.total})"


def _seconds(cell: Measured) -> str:
    spread = f" ± {cell.seconds_std:.0f}" if cell.seconds_std is not None else ""
    return _number(cell.seconds, cell, ".0f") + spread


def _points(cell: Measured) -> str:
    if cell.points is None:
        return _number(None, cell, "")
    return markdown.interval((cell.points, cell.points_low, cell.points_high), "+.1f")


def _number(value: float | None, cell: Measured, form: str, unit: str = "") -> str:
    if value is None:
        return MISSING if cell.accuracy is None else "-"
    return format(value, form) + unit


def phases_markdown(by_preset: dict[str, list[Run]]) -> str:
    """Returns a table of the mean seconds of each phase, by preset."""
    lines = []
    for preset, members in by_preset.items():
        seconds = [f"{mean(run['time'].get(f'{phase}_s', 0.0) for run in members):.1f}" for phase in PHASES]
        lines.append([preset, str(len(members)), *seconds])
    return markdown.table(["preset", "seeds", *PHASES], lines) + "\n"


def heat_cells(runs: list[Run]) -> dict[tuple[float, float], list[Run]]:
    """Returns runs by (gamma, t_cutoff) that agree in all other settings: those that fill most of the map.

    The standard sampler stands at (0, 0).
    """
    plain = {"select": "low_confidence", "anchors": "model", "gamma_of": "length", "choose": "first", "static": None}
    maps: dict[str, dict[tuple[float, float], dict[int, Run]]] = defaultdict(lambda: defaultdict(dict))
    for run in sorted(runs, key=lambda r: r["finished"]):
        settings = run["settings"]
        gamma, t_cutoff = (settings.get(name, 0.0) for name in PLACE)
        usual = all(settings.get(f"sampler.{name}", value) == value for name, value in plain.items())
        if not usual or run["estimator"] != "elbo":
            continue
        rest = conditions(run) | {k: v for k, v in settings.items() if k.split(".")[0] in ("estimator", "objective")}
        maps[key(rest)][gamma, t_cutoff][run["seed"]] = run
    fullest = max(maps.values(), key=lambda found: (len(found), sum(map(len, found.values()))), default={})
    return {place: list(by_seed.values()) for place, by_seed in fullest.items()}


def rows_of(run: Run) -> list[dict[str, Any]]:
    """Returns a run's rows in the list of runs: one for each evaluation temperature."""
    return [
        {
            **{name: run[name] for name in RUN_COLUMNS},
            "temperature": name,
            "base": base,
            "final": final,
            "gain": 100 * (final["accuracy"] - base["accuracy"]),
            "forwards": run["forwards_per_rollout"],
            "variance": (run["elbo_variance"] or {}).get("median"),
            "variance_of": variance_of(run),
            "train_s": run["time"]["train_s"],
            "total_s": sum(seconds for phase, seconds in run["time"].items() if phase not in ("train_s", "cpu_s")),
        }
        for name, (base, final) in run["scores"].items()
    ]


def variance_of(run: Run) -> str:
    """Names the estimator and the draws of a run's variance. Variances of others do not compare with it."""
    draws = (run["elbo_variance"] or {}).get("draws")
    return run["estimator"] if draws is None else f"{run['estimator']}, {draws} draw{'s' * (draws > 1)}"


def runs_markdown(rows: list[dict[str, Any]]) -> str:
    """Returns one line per run and temperature, then each method's mean gain over its seeds (the last run of each seed)."""
    names = ["method", "seed", "T", "split", "base", "final", "gain", "forwards", "estimate's variance, median (of)"]
    names += ["training s", "all s"]
    lines = []
    gains: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    ran = Counter((row["method"], row["temperature"]) for row in rows)
    for row in rows:
        gains[row["method"], row["temperature"]][row["seed"]] = row["gain"]
        lines.append(
            [
                *(row["method"], str(row["seed"]), row["temperature"].removeprefix("T="), row["split"]),
                *(counts(row["base"]), counts(row["final"]), f"{row['gain']:+.1f}", f"{row['forwards']:.0f}"),
                MISSING if row["variance"] is None else f"{row['variance']:.1f} ({row['variance_of']})",
                *(f"{row['train_s']:.0f}", f"{row['total_s']:.0f}"),
            ]
        )
    gained = []
    for (method, temperature), by_seed in gains.items():
        values, runs = list(by_seed.values()), ran[method, temperature]
        repeated = f" ({runs} runs; of each seed the newest counts)" if runs > len(values) else ""
        gain = markdown.spread(values, "+.1f")
        gained.append(f"- {method}, {temperature}: {gain} points over {len(values)} seed(s){repeated}")
    return "\n".join([markdown.table(names, lines), "", *gained]) + "\n"


def title(table: Table) -> str:
    """Returns a table's heading, which also says if the paper measured something else."""
    name = f"Table {table.number}. {table.title}" if table.number else table.title
    return name + (f" (ours on {table.tasks[0].capitalize()}, the paper's on {table.where})" if table.where else "")


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes rows as a CSV file. Missing values stay empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def provenance_markdown(by_preset: dict[str, list[Run]], left_out: list[str]) -> str:
    """Says from what code, devices and problems cells come, how they differ from their baselines, and what was left out."""
    used = [run for members in by_preset.values() for run in members]
    sizes = sorted({(run["updates"], run["final"]["total"], run["split"]) for run in used})
    origins = {of: Counter(run.get(of) or "not recorded" for run in used) for of in ("code", "device")}
    lines = [f"{updates} updates, {total} {split} problems." for updates, total, split in sizes]
    for of, names in origins.items():
        counted = [f"{name} ({n} run{'s' * (n > 1)})" for name, n in names.most_common()]
        lines += [f"{of.capitalize()}: {', '.join(counted)}."] if used else []
    for table, row, (task, cell) in ((t, r, x) for t in TABLES for r in t.rows for x in zip(t.tasks, r.cells, strict=True)):
        scores = base_scores(table, task, by_preset) if cell.preset == BASE else []
        if len(scores) > 1:
            lines.append(f"{row.names[0]}, {task}: {'; '.join(map(counts, scores))} in different runs; the first is shown.")
        for name in cell.baselines:
            if cell.preset in by_preset and name in by_preset:
                ours, theirs = by_preset[cell.preset][0], by_preset[name][0]
                verdict = "compared all the same" if comparable(ours, theirs) else "not compared"
                if differ := contrast(conditions(ours), conditions(theirs)):
                    lines.append(f"{cell.preset} is not run as its baseline {name}, {verdict}: {differ}.")
    lines += [f"Left out: {line}." for line in left_out]
    return "".join(f"- {line}\n" for line in dict.fromkeys(lines))


def write_tables(runs: list[Run], to: Path, clock: str = "wall", ignored: list[str] | None = None) -> str:
    """Writes tables.md with every table and figure, and a CSV and a PNG for each. Returns the tables that have a run.

    ignored: a line for each run that was left out earlier; they are listed with the runs that fill no cell.
    """
    by_preset, left_out = presets(runs)
    cells, pairs = fill(by_preset), {key: variance_pairs(by_preset, key) for key in MEASURES}
    parts = ["# The paper's tables and figures from runs\n", LEGEND.format(clock=CLOCKS[clock][1])]
    parts.append(provenance_markdown(by_preset, left_out + (ignored or [])))
    logs = {claims.VARIANCE: log_means(pairs["variance"]), claims.CHANGE: log_means(pairs[DELTA])}
    by_measure = {measure: dict(zip(FIGURE_3.values(), sides, strict=True)) for measure, sides in logs.items()}
    if verdicts := claims.judge(by_preset, by_measure):
        (to / "claims.md").write_text(claims.markdown(verdicts, CLOCKS[clock][1]), encoding="utf-8")
        write_csv(to / "claims.csv", claims.rows(verdicts))
    shown = []
    for table in TABLES:
        text = f"## {title(table)}\n\n{table_markdown(table, cells[table.number])}"
        parts.append(text)
        name = f"table{table.number}" if table.number else "other_estimators"
        write_csv(to / f"{name}.csv", [asdict(cell) for cell in cells[table.number]])
        if any(cell.seeds for cell in cells[table.number]):
            shown.append(text)
    curves = {}
    for table in TABLES:
        lines = [(" ".join(row.names), by_preset.get(cell.preset)) for row in table.rows for cell in row.cells]
        curves[title(table).split(" (")[0]] = {name: members for name, members in lines if members}
    figure_3 = {name: by_preset.get(preset, []) for name, preset in FIGURE_3.items()}
    groups = [members for group in (*curves.values(), figure_3) for members in group.values()]
    pens = figures.pens(run["seedless_hash"] for members in groups for run in members)
    variance = f"## Figure 3. Variance of the ELBO estimate\n\n{variance_markdown(pairs)}"
    parts.append(variance)
    if pairs["variance"].usable:
        shown.append(variance)
        figures.variance(figure_3, pens, to)
        parts.append("![Variance over updates](figure3a.png)\n\n![Distribution of the variance](figure3b.png)\n")
        write_csv(to / "figure3.csv", variance_rows(pairs))
    heat = heat_cells(runs)
    if len(heat) > 1:
        write_csv(to / "heatmap.csv", figures.heat_map(heat, to / "heatmap.png"))
        parts.append("## Accuracy, time and variance over gamma and t_cutoff\n\n![Heat maps](heatmap.png)\n")
    if any(curves.values()):
        figures.learning_curves({name: group for name, group in curves.items() if group}, pens, to / "table_curves.png")
        figures.phases(by_preset, PHASES, to / "phases.png")
        parts.append("## Learning curves\n\n![Mean reward of each update](table_curves.png)\n")
        parts.append(f"## Where the time goes (seconds)\n\n{phases_markdown(by_preset)}\n![Phases](phases.png)\n")
    (to / "tables.md").write_text("\n".join(parts), encoding="utf-8")
    return "\n".join(shown)


def main() -> None:
    """Reads the runs. Writes tables.md, runs.md and calibration.md, with a CSV and a PNG for each table and figure."""
    parser = argparse.ArgumentParser(prog="python -m stp.report", description=__doc__)
    parser.add_argument(
        "runs", nargs="*", type=Path, help="run folders, or ledgers (.csv); all finished runs under outputs/ by default"
    )
    parser.add_argument("--to", type=Path, default=Path("outputs/report"), help="folder to write (default: %(default)s)")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="which seconds the tables show (default: %(default)s)")
    parser.add_argument("--split", choices=("test", "validation"), help="problems of this split only (default: test, if any)")
    parser.add_argument("--model", help="runs of this model only (default: a folder for each model, if there are several)")
    options = parser.parse_args()
    places = options.runs or sorted(p.parent for p in Path("outputs").glob("**/summary.json"))
    try:
        runs, ignored = load_runs(places, options.clock)
    except UserError as error:
        parser.error(str(error))
    files = [place if place.suffix == ".csv" else place / "summary.json" for place in places]
    ignored += [f"{place}: no finished run is there" for place, file in zip(places, files, strict=True) if not file.exists()]
    for line in ignored:
        print(f"left out: {line}", file=sys.stderr)
    models = sorted({run["model"] for run in runs})
    if not runs:
        parser.error("no finished run found; give run folders, or train one with python -m stp.train")
    runs = [run for run in runs if options.model in (None, run["model"])]
    if not runs:
        parser.error(f"no finished run of --model {options.model}; there are runs of {', '.join(models)}")
    splits = {run["split"] for run in runs}
    split = options.split or max(splits & {"test"} or splits)
    others = [run for run in runs if run["split"] != split]
    runs = [run for run in runs if run["split"] == split]
    if not runs:
        parser.error(f"no finished run was evaluated on --split {split}; there are runs on {', '.join(sorted(splits))}")
    for name, on in dict.fromkeys((run["experiment"], run["split"]) for run in others):
        alike = [run for run in others if (run["experiment"], run["split"]) == (name, on)]
        ignored.append(f"{in_words(alike)}: evaluated on {on} problems; --split {on} reports {'them' if alike[1:] else 'it'}")
    models = sorted({run["model"] for run in runs})
    for model in models:
        to = options.to / re.sub(r"[^\w-]+", "_", model) if len(models) > 1 else options.to
        print(pages([run for run in runs if run["model"] == model], to, options.clock, ignored))
        print(f"written to {to}")


def pages(runs: list[Run], to: Path, clock: str, ignored: list[str]) -> str:
    """Writes every page, table and figure of one model's runs. Returns the tables that have a run, or a line for each run."""
    runs = name_methods(runs)
    to.mkdir(parents=True, exist_ok=True)
    single = list({run["folder"].resolve(): run for run in runs}.values())  # several presets may share a run
    rows = [row for run in single for row in rows_of(run)]
    (to / "runs.md").write_text(runs_markdown(rows), encoding="utf-8")
    write_csv(
        to / "every_run.csv",
        [{**row, "base": row["base"]["accuracy"], "final": row["final"]["accuracy"]} for row in rows],
    )
    figures.methods(newest(single), to)
    curves = calibration.curves(newest(single))
    if curves:
        (to / "calibration.md").write_text(calibration.markdown(newest(single), curves), encoding="utf-8")
        write_csv(to / "calibration.csv", calibration.rows(curves))
        figures.reliability(curves, to / "reliability.png")
    boards = leaderboard.places(runs)
    if boards:
        alike = estimates.families(boards)
        text = leaderboard.markdown(boards) + ("\n" + estimates.markdown(alike) if alike else "")
        (to / "leaderboard.md").write_text(text, encoding="utf-8")
        if alike:
            write_csv(to / "estimates.csv", [asdict(family) for family in alike])
        written = [asdict(place) for board in boards.values() for place in board]
        write_csv(to / "leaderboard.csv", [{k: v for k, v in row.items() if k != "by_seed"} for row in written])
        figures.board(boards, to / "leaderboard.png")
    if runs[0]["split"] == "validation" and (tried := search.trials(runs)):  # test problems are for no choice
        (to / "search.md").write_text(search.markdown(tried, runs[0]["final"]["total"]), encoding="utf-8")
        write_csv(to / "search.csv", search.rows(tried))
    if found := rollouts.variants(runs):
        (to / "rollouts.md").write_text(rollouts.markdown(found), encoding="utf-8")
        write_csv(to / "rollouts.csv", rollouts.rows(found))
    if points := strength.points(found):
        (to / "strength.md").write_text(strength.markdown(points), encoding="utf-8")
        write_csv(to / "strength.csv", strength.rows(points))
        figures.strength(points, to / "strength.png")
    return write_tables(runs, to, clock, ignored) or runs_markdown(rows)
