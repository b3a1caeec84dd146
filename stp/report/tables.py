"""The paper's Tables 2-7: their layout, their values, and the presets that fill their rows."""

from dataclasses import dataclass

BASE = "base"  # stands for the model before training, in place of a preset; every run of the task has its score


@dataclass(frozen=True)
class Cell:
    """One measurement of a row. preset: it makes the runs. accuracy (%), seconds: the paper's. baselines: to compare with."""

    preset: str
    accuracy: float | None
    seconds: int | None = None
    baselines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """A row of a table. names: its leading columns. cells: one for each of the table's tasks."""

    names: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """A table. columns: headings of the leading columns. tasks: what we measure. where: the paper's task, if it is another."""

    number: int
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    tasks: tuple[str, ...] = ("countdown",)
    where: str | None = "MATH"


def _one(*names: str, preset: str, paper: tuple[float, int], baselines: tuple[str, ...] = ()) -> Row:
    return Row(names, (Cell(preset, *paper, baselines),))


def _main(name: str, option: str, *paper: tuple[float, int]) -> Row:
    tasks = ("math", "gsm8k", "countdown")
    others = ("grpo_elbo", "diffu_grpo") if option == "stp" else ()
    cells = (
        Cell(f"table2_{task}_{option}", *figures, tuple(f"table2_{task}_{other}" for other in others))
        for task, figures in zip(tasks, paper, strict=True)
    )
    return Row((name,), tuple(cells))


_ELBO = ("table5_grpo_elbo",)

TABLES = (
    Table(
        2,
        "Main results",
        ("Method",),
        (
            Row(("base model",), (Cell(BASE, 32.80), Cell(BASE, 77.79), Cell(BASE, 16.80))),
            _main("GRPO w/ ELBO", "grpo_elbo", (34.20, 126_045), (80.52, 163_035), (36.33, 164_657)),
            _main("Diffu-GRPO", "diffu_grpo", (32.80, 113_358), (80.21, 146_641), (25.39, 147_100)),
            _main("STP (ours)", "stp", (36.20, 98_537), (80.97, 144_536), (66.02, 142_055)),
        ),
        tasks=("math", "gsm8k", "countdown"),
        where=None,
    ),
    Table(
        3,
        "Compatibility with other algorithms",
        ("Method",),
        (
            _one("Diffu-GRPO", preset="table3_diffu_grpo", paper=(32.80, 113_358)),
            _one("Diffu-GRPO + STP", preset="table3_diffu_grpo_stp", paper=(34.40, 79_529), baselines=("table3_diffu_grpo",)),
            _one("SPG", preset="table3_spg", paper=(36.10, 89_525)),
            _one("SPG + STP", preset="table3_spg_stp", paper=(36.60, 82_830), baselines=("table3_spg",)),
        ),
    ),
    Table(
        4,
        "Exploration sources",
        ("Method", "Source"),
        (
            _one("GRPO w/ ELBO", "-", preset="table4_grpo_elbo", paper=(34.20, 126_045)),
            _one("STP", "model gens", preset="table4_model", paper=(36.20, 98_537), baselines=("table4_grpo_elbo",)),
            _one("STP", "GT solutions", preset="table4_ground_truth", paper=(36.60, 99_756), baselines=("table4_grpo_elbo",)),
        ),
    ),
    Table(
        5,
        "Ablation of STP's components",
        ("Method", "SP", "TP"),
        (
            _one("GRPO w/ ELBO", "no", "no", preset="table5_grpo_elbo", paper=(34.20, 126_045)),
            _one("Spatial only", "yes", "no", preset="table5_spatial_only", paper=(35.20, 102_553), baselines=_ELBO),
            _one("Temporal only", "no", "yes", preset="table5_temporal_only", paper=(36.60, 102_190), baselines=_ELBO),
            _one("STP (ours)", "yes", "yes", preset="table5_stp", paper=(36.20, 98_537), baselines=_ELBO),
        ),
    ),
    Table(
        6,
        "Sensitivity to gamma and t_cutoff",
        ("gamma", "t_cutoff"),
        (
            _one("0.10", "0.00", preset="table6_g010_t000", paper=(34.20, 100_935), baselines=_ELBO),
            _one("0.05", "0.00", preset="table6_g005_t000", paper=(35.20, 102_553), baselines=_ELBO),
            _one("0.00", "0.10", preset="table6_g000_t010", paper=(35.20, 102_165), baselines=_ELBO),
            _one("0.00", "0.05", preset="table6_g000_t005", paper=(36.60, 102_190), baselines=_ELBO),
            _one("0.05", "0.05", preset="table6_g005_t005", paper=(36.20, 98_537), baselines=_ELBO),
        ),
    ),
    Table(
        7,
        "Selection of the fixed tokens (gamma = 0.05)",
        ("Strategy",),
        (
            _one("Random", preset="table7_random", paper=(34.60, 98_234), baselines=_ELBO),
            _one("Low confidence (ours)", preset="table7_low_confidence", paper=(35.20, 102_553), baselines=_ELBO),
        ),
    ),
    Table(
        0,
        "Other estimators",
        ("Estimator", "Sampler"),
        (
            Row(("UniGRPO", "standard"), (Cell("table1_unigrpo", None),)),
            Row(("UniGRPO", "STP"), (Cell("table1_unigrpo_stp", None, None, ("table1_unigrpo",)),)),
            Row(("coupled masks", "standard"), (Cell("extra_coupled", None),)),
            Row(("coupled masks", "STP"), (Cell("extra_coupled_stp", None, None, ("extra_coupled",)),)),
        ),
        where=None,
    ),
)

TASKS = {  # the task of each preset in a table
    cell.preset: task
    for table in TABLES
    for row in table.rows
    for task, cell in zip(table.tasks, row.cells, strict=True)
    if cell.preset != BASE
}

FIGURE_3 = {"GRPO w/ ELBO": "figure3_grpo_elbo", "STP": "figure3_stp"}
