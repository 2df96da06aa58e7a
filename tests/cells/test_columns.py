import pandas as pd
import pytest

from stateshift.cells import find_columns
from stateshift.errors import InputProblems


def obs(**columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame(columns)


def test_conventional_names_are_found_in_their_order():
    found = find_columns(obs(condition=["ctrl", "A"], gene=["NTC", "A"], cell_line=["x", "x"], gem_group=["1", "2"]))
    assert (found.perturbation, found.cell_type, found.batch, found.control) == (
        "gene",
        "cell_line",
        "gem_group",
        "NTC",
    )


def test_declared_names_win():
    table = obs(gene=["a", "b"], guide=["none", "b"], cell_type=["x", "x"], line=["y", "y"])
    found = find_columns(table, {"perturbation": "guide", "cell_type": "line", "control": "none"})
    assert (found.perturbation, found.cell_type, found.control) == ("guide", "line", "none")


def test_a_misspelt_column_and_a_missing_control_are_told_together():
    with pytest.raises(InputProblems) as caught:
        find_columns(obs(gene=["A", "B"], cell_type=["x", "x"]), {"cell_type": "celltype"}, "my.h5ad")
    assert "my.h5ad: 2 problems" in str(caught.value)
    assert "obs has no column `celltype` for the cell_type (did you mean `cell_type`?)" in str(caught.value)
    assert "no control cells: `gene` holds none of non-targeting, control, ctrl, NTC" in str(caught.value)


def test_a_misspelt_control_gets_a_suggestion():
    with pytest.raises(InputProblems, match=r"never says `non-targetting` \(did you mean `non-targeting`\?\)"):
        find_columns(obs(gene=["A", "non-targeting"], cell_type=["x", "x"]), {"control": "non-targetting"})


def test_no_perturbation_column_lists_what_there_is():
    with pytest.raises(InputProblems, match="the columns are guide, cell_type"):
        find_columns(obs(guide=["A"], cell_type=["x"]))
