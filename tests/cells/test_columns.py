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


def test_without_a_control_the_largest_groups_are_named_and_without_cell_types_how_to_add_one():
    with pytest.raises(InputProblems) as caught:
        find_columns(obs(gene=["A", "NT", "NT", "B", *"CDEFGHIJ"]))
    assert "the largest groups are NT, " in str(caught.value)
    assert 'where all cells are of one type, adata.obs["cell_type"] = "K562"' in str(caught.value)


def test_a_control_that_is_a_number_in_the_toml_is_found():
    assert find_columns(obs(gene=[0, 1], cell_type=["x", "x"]), {"control": 0}).control == "0"


def test_a_misspelt_control_gets_a_suggestion():
    with pytest.raises(InputProblems, match=r"never says `non-targetting` \(did you mean `non-targeting`\?\)"):
        find_columns(obs(gene=["A", "non-targeting"], cell_type=["x", "x"]), {"control": "non-targetting"})


def test_no_perturbation_column_lists_what_there_is():
    with pytest.raises(InputProblems, match="the columns are guide, cell_type"):
        find_columns(obs(guide=["A"], cell_type=["x"]))
