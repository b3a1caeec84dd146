"""stp/report/tables.py: the paper's figures as printed, and a preset for each of our rows."""

import re

import pytest

from stp.report.tables import BASE, FIGURE_3, TABLES
from tests.config.test_options import BESIDE_THE_PAPER, FILES
from tests.integration.runs import ROOT

# what the paper prints, in its order: names, then accuracy (%) and seconds of each task
PRINTED = {
    2: [
        ("base model", 32.80, None, 77.79, None, 16.80, None),
        ("GRPO w/ ELBO", 34.20, 126_045, 80.52, 163_035, 36.33, 164_657),
        ("Diffu-GRPO", 32.80, 113_358, 80.21, 146_641, 25.39, 147_100),
        ("STP (ours)", 36.20, 98_537, 80.97, 144_536, 66.02, 142_055),
    ],
    3: [
        ("Diffu-GRPO", 32.80, 113_358),
        ("Diffu-GRPO + STP", 34.40, 79_529),
        ("SPG", 36.10, 89_525),
        ("SPG + STP", 36.60, 82_830),
    ],
    4: [
        ("GRPO w/ ELBO", "-", 34.20, 126_045),
        ("STP", "model gens", 36.20, 98_537),
        ("STP", "GT solutions", 36.60, 99_756),
    ],
    5: [
        ("GRPO w/ ELBO", "no", "no", 34.20, 126_045),
        ("Spatial only", "yes", "no", 35.20, 102_553),
        ("Temporal only", "no", "yes", 36.60, 102_190),
        ("STP (ours)", "yes", "yes", 36.20, 98_537),
    ],
    6: [
        ("0.10", "0.00", 34.20, 100_935),
        ("0.05", "0.00", 35.20, 102_553),
        ("0.00", "0.10", 35.20, 102_165),
        ("0.00", "0.05", 36.60, 102_190),
        ("0.05", "0.05", 36.20, 98_537),
    ],
    7: [("Random", 34.60, 98_234), ("Low confidence (ours)", 35.20, 102_553)],
}
# the preset of each row
PRESETS = {
    3: ["table3_diffu_grpo", "table3_diffu_grpo_stp", "table3_spg", "table3_spg_stp"],
    4: ["table4_grpo_elbo", "table4_model", "table4_ground_truth"],
    5: ["table5_grpo_elbo", "table5_spatial_only", "table5_temporal_only", "table5_stp"],
    6: ["table6_g010_t000", "table6_g005_t000", "table6_g000_t010", "table6_g000_t005", "table6_g005_t005"],
    7: ["table7_random", "table7_low_confidence"],
    0: ["table1_unigrpo", "table1_unigrpo_stp", "extra_coupled", "extra_coupled_stp"],
}
CAPTIONS = {
    2: "Main results on reasoning benchmarks",
    3: "Compatibility of STP with advanced RL algorithms",
    4: "Comparison of exploration sources",
    5: "Ablation of STP components",
    6: "Sensitivity analysis of hyperparameters",
    7: "Comparison of Spatial Pruning strategies",
}
BY_NUMBER = {table.number: table for table in TABLES}


def figures(table):
    """Accuracy and seconds of every cell, row by row."""
    return [(cell.accuracy, cell.seconds) for row in table.rows for cell in row.cells]


@pytest.mark.parametrize("number", PRINTED)
def test_the_papers_figures(number):
    rows = [(*row.names, *(v for c in row.cells for v in (c.accuracy, c.seconds))) for row in BY_NUMBER[number].rows]
    assert rows == PRINTED[number]


@pytest.mark.parametrize("number", PRINTED)
def test_the_papers_text_has_these_figures(number):
    texts = sorted((ROOT.parent / "shared" / "paper").glob("*.txt"))
    if not texts:
        pytest.skip("the paper's text is not beside the repository")
    caption = f"Table {number}. {CAPTIONS[number]}"
    text = texts[0].read_text().split(caption)[1]
    found = re.findall(r"(\d+\.\d+)%\s(-|[\d,]+)", text)[: len(figures(BY_NUMBER[number]))]
    read = [(float(accuracy), None if seconds == "-" else int(seconds.replace(",", ""))) for accuracy, seconds in found]
    assert read == figures(BY_NUMBER[number])


def test_a_row_has_a_cell_for_each_task_and_a_name_for_each_column():
    assert sorted(BY_NUMBER) == [0, 2, 3, 4, 5, 6, 7] and len(TABLES) == 7
    for table in TABLES:
        assert all(len(row.cells) == len(table.tasks) and len(row.names) == len(table.columns) for row in table.rows)
    assert BY_NUMBER[2].tasks == ("math", "gsm8k", "countdown") and BY_NUMBER[2].where is None
    assert all(BY_NUMBER[n].tasks == ("countdown",) and BY_NUMBER[n].where == "MATH" for n in (3, 4, 5, 6, 7))


@pytest.mark.parametrize("number", PRESETS)
def test_the_preset_of_each_row(number):
    assert [row.cells[0].preset for row in BY_NUMBER[number].rows] == PRESETS[number]


def test_table_2_has_a_preset_for_each_task_and_method():
    rows = [[cell.preset for cell in row.cells] for row in BY_NUMBER[2].rows]
    options = ("grpo_elbo", "diffu_grpo", "stp")
    assert rows == [[BASE] * 3] + [[f"table2_{task}_{o}" for task in ("math", "gsm8k", "countdown")] for o in options]


def test_the_baselines():
    """Table 2 takes the better of two, Table 3 and the last one the row above, the others GRPO w/ ELBO; it has none itself."""
    for table in TABLES:
        for i, row in enumerate(table.rows):
            for task, cell in zip(table.tasks, row.cells, strict=True):
                expected = ("table5_grpo_elbo",) if table.number in (5, 6, 7) else ()
                if table.number == 4:
                    expected = ("table4_grpo_elbo",)
                if table.number == 2 and i == 3:
                    expected = (f"table2_{task}_grpo_elbo", f"table2_{task}_diffu_grpo")
                if table.number in (3, 0) and i % 2:
                    expected = (table.rows[i - 1].cells[0].preset,)
                assert cell.baselines == (expected if cell.preset not in expected else ())


def test_every_preset_of_a_task_we_have_exists():
    named = {cell.preset for table in TABLES for row in table.rows for cell in row.cells} | set(FIGURE_3.values()) - {BASE}
    named |= {name for table in TABLES for row in table.rows for cell in row.cells for name in cell.baselines}
    absent = {name for name in named if name.startswith("table2_") and name.split("_")[1] not in FILES["task"]}
    assert named - absent - {BASE} <= set(FILES["experiment"])
    assert absent == {n for n in absent if n.split("_")[1] in {"math", "gsm8k"}}


def test_every_preset_is_used():
    """In a table, in Figure 3, or by the heat map alone; other methods and a few more are no row of the paper."""
    used = {cell.preset for table in TABLES for row in table.rows for cell in row.cells} | set(FIGURE_3.values())
    rest = set(FILES["experiment"]) - used
    assert {name for name in rest if not name.startswith(("heatmap_", "method_"))} == BESIDE_THE_PAPER
    assert {name for name in rest if name.startswith("heatmap_")} == {
        f"heatmap_{p}" for p in ("g005_t010", "g010_t005", "g010_t010")
    }
    assert list(FIGURE_3) == ["GRPO w/ ELBO", "STP"]
