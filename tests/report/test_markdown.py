"""Tables and intervals in words."""

from stp.report.markdown import interval, spread, table


def test_a_table_has_a_line_per_row_under_its_heads():
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n|---|---|\n| 1 | 2 |"
    assert table(["a"], []) == "| a |\n|---|"


def test_an_interval_has_the_signs_of_its_format_and_the_unit_once():
    assert interval((4.94, -3.1, 13.0), "+.1f", " points") == "+4.9 points [-3.1, +13.0]"
    assert interval((0.5, None, None), ".2f") == "0.50 (one seed, no interval)"


def test_a_deviation_has_no_sign():
    assert spread([1.0, 3.0], "+.1f") == "+2.0 ± 1.4"
    assert spread([1.0], ".0f") == "1"
