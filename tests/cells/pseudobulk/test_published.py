import gzip

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from stateshift.cells import read_effects
from stateshift.errors import InputProblems, StateshiftError

LONG = "perturbation,gene,log2fc,se\nB,g2,-2,0.5\nA,g1,1.5,0.1\nA,g2,NA,\n"


@pytest.fixture
def written(tmp_path):
    def write(text: str, name: str = "effects.csv"):
        path = tmp_path / name
        data = text.encode() if isinstance(text, str) else text
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write


def refused(path, *words: str, **how) -> None:
    with pytest.raises(StateshiftError) as caught:
        read_effects(path, **how)
    for word in words:
        assert word in str(caught.value)


def test_a_table_of_one_row_a_pair_becomes_perturbations_by_genes(written):
    table = read_effects(written(LONG), in_context="K562")
    assert (table.perturbations, table.contexts, table.genes) == (["A", "B"], ["K562", "K562"], ["g2", "g1"])
    np.testing.assert_array_equal(table.effects, np.float32([[np.nan, 1.5], [-2, np.nan]]))
    np.testing.assert_array_equal(table.standard_error, np.float32([[np.nan, 0.1], [0.5, np.nan]]))
    assert (table.scale, table.n_cells, table.control_means) == ("log2_fold_change", None, {})
    np.testing.assert_array_equal(table.measured, [[False, True], [True, False]])


@pytest.mark.parametrize("name", ["t.tsv", "t.csv.gz", "t.tsv.gz", "T.CSV"])
def test_tabs_gzip_byte_order_marks_blank_lines_and_other_line_ends_are_read(written, name):
    text = "\ufeff" + LONG.replace("\n", "\r\n") + "\r\n\r\n"
    table = read_effects(written(text.replace(",", "\t") if ".tsv" in name else text, name))
    np.testing.assert_array_equal(table.effects, read_effects(written(LONG)).effects)
    assert table.perturbations == ["A", "B"]


def test_contexts_are_mixed_and_a_pair_may_occur_in_each(written):
    table = read_effects(written("pert,cell_line,Gene,effect\nA,y,g,1\nA,x,g,2\nB,x,g,3\n"))
    assert list(zip(table.contexts, table.perturbations, table.effects[:, 0])) == [("x", "A", 2), ("x", "B", 3), ("y", "A", 1)]  # fmt: skip
    assert table.scale == "effect"


def test_names_that_pandas_takes_for_missing_are_names(written):
    table = read_effects(written("perturbation,gene,value\nNA,nan,1\nnull,None,2\n"))
    assert (table.perturbations, table.genes) == (["NA", "null"], ["nan", "None"])
    assert np.isnan(table.effects).tolist() == [[False, True], [True, False]]


def test_gene_alone_is_not_guessed_to_be_the_target_or_the_measured_one(written):
    path = written("gene,readout,value\nA,g,1\n")
    refused(path, "`gene` could be the perturbed gene or the measured one", 'columns={"perturbation": …}')
    table = read_effects(path, {"perturbation": "gene"})
    assert (table.perturbations, table.genes) == (["A"], ["g"])


def test_gene_beside_a_named_perturbation_is_the_measured_one(written):
    table = read_effects(written("gene,target_gene,value\ng,A,1\n"))
    assert (table.perturbations, table.genes) == (["A"], ["g"])


def test_two_columns_for_one_role_are_refused_until_one_is_named(written):
    path = written("perturbation,condition,gene,gene_name,log2fc,value,extra\nA,c,g,n,1,2,\n")
    refused(path, "3 problems", "perturbation, condition could each be the perturbation", "gene, gene_name could each")
    chosen = {"perturbation": "perturbation", "gene": "gene", "value": "value"}
    assert read_effects(path, chosen).effects.tolist() == [[2.0]]


def test_a_missing_value_column_is_told_with_those_there_are(written):
    path = written("perturbation,gene,score\nA,g,1\n")
    refused(path, "no column for the value (value, effect", "the columns are perturbation, gene, score")
    assert read_effects(path, {"value": "score"}, scale="z score").scale == "z score"
    refused(path, "no column `scor` for the value (did you mean `score`?)", columns={"value": "scor"})
    refused(path, "`vlaue` is no role of a column (did you mean `value`?)", columns={"vlaue": "score"})


def test_repeated_measurements_are_refused_by_name_and_line(written):
    refused(written(LONG + "A,g1,9,\n"), "measured more than once: A on g1 in unnamed (line 5)")


def test_what_is_no_number_is_refused_with_its_line(written):
    refused(written(LONG + 'C,g1,"1,5",\nC,g2,high,\n'), "`log2fc` holds `1,5` in line 5", "holds `high` in line 6")
    refused(written(LONG + "C,g1,-inf,\n"), "`log2fc` is infinite in line 5")
    many = LONG + "".join(f"C{i},g1,x,\n" for i in range(20))
    refused(written(many), "in line 9, no number.", "15 more values are no numbers.")


def test_empty_names_and_negative_errors_are_refused_with_their_line(written):
    refused(written(LONG + " ,g1,1,\nA,,1,\n"), "`perturbation` is empty in line 5", "`gene` is empty in line 6")
    refused(written(LONG + "C,g1,1,-0.1\n"), "`se` is negative in line 5")


def test_a_named_p_value_gives_the_error_of_a_wald_test(written):
    z = 2.5
    path = written(f"perturbation,gene,beta,p,padj\nA,g,-5,{2 * norm.sf(z)},0\nA,h,1,0,0\nA,i,1,1,0\n")
    assert read_effects(path).standard_error is None
    error = read_effects(path, {"p_value": "p"}).standard_error[0]
    assert error[0] == pytest.approx(2.0)
    assert np.isnan(error[1:]).all()
    refused(written("perturbation,gene,beta,p\nA,g,1,1.5\n"), "`p` is no p value in line 2", columns={"p_value": "p"})


def test_a_matrix_of_perturbations_by_genes_is_read(written, tmp_path):
    frame = pd.DataFrame([[1.0, np.nan], [3.0, 4.0]], index=["A", "B+C"], columns=["g1", "g2"])
    frame.to_csv(tmp_path / "wide.csv")
    table = read_effects(tmp_path / "wide.csv", in_context="x", scale="log2_fold_change")
    assert (table.perturbations, table.genes, table.contexts) == (["A", "B+C"], ["g1", "g2"], ["x", "x"])
    np.testing.assert_array_equal(table.effects, frame.to_numpy(np.float32))
    mixed = read_effects(written("g1,context,target_gene,g2\n1,x,A,2\n3,y,A,4\n"))
    assert (mixed.genes, mixed.contexts, mixed.effects.tolist()) == (["g1", "g2"], ["x", "y"], [[1, 2], [3, 4]])


def test_row_names_as_r_writes_them_are_the_perturbations(written):
    table = read_effects(written("g1\tg2\nA\t1\t2\nB\t3\t4\n", "wide.tsv"))
    assert (table.perturbations, table.genes, table.effects.tolist()) == (["A", "B"], ["g1", "g2"], [[1, 2], [3, 4]])


def test_a_matrix_that_repeats_rows_or_genes_or_holds_words_is_refused(written):
    refused(written("pert,g1\nA,1\nA,2\n"), "rows occur more than once: A in unnamed")
    refused(written("pert,g1,g1\nA,1,2\n"), "columns of one name: g1")
    refused(written("pert,g1,note\nA,1,good\n"), "`note` holds `good` in line 2, no number")
    refused(written("gene,g1\nA,1\n"), "`gene` could be the perturbed gene or the measured one")
    assert read_effects(written("gene,g1\nA,1\n"), {"perturbation": "gene"}).perturbations == ["A"]


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("", "t.csv", "has one column"),
        (
            "perturbation;gene;value\nA;g;1\n",
            "t.csv",
            "has one column: the columns of a .csv file are separated by commas",
        ),
        ("perturbation,gene,value\n", "t.csv", "has a header and no row"),
        (
            "perturbation,gene,value\nA,g,1\nA,h,1,5\n",
            "t.csv",
            "line 3 has 4 values and the header 3 columns",
        ),
        ("pert,g1\nA,1\nB,1,5\n", "t.csv", "line 3 has 3 values and the header 2 columns"),
        ("perturbation,gene,value\nA,g,1\nA\n", "t.csv", "line 3 has 1 values and the header 3 columns"),
        (b"\xff\xfe\x00p", "t.csv", "can't be read as a table of text"),
        ("A,1", "t.xlsx", "effects are read from .csv, .tsv, either .gz, .h5ad or .zarr"),
    ],
)
def test_files_of_another_kind_are_refused_in_words(written, text, name, said):
    refused(written(text, name), name, said)


def test_missing_and_cut_off_files_are_refused_in_words(written, tmp_path):
    refused(tmp_path / "none.csv", "there is no such file")
    path = written("perturbation,gene,value\n" + "".join(f"A,g{i},{i / 7}\n" for i in range(5000)), "t.csv.gz")
    path.write_bytes(path.read_bytes()[:4000])
    refused(path, "can't be read as a table of text")


def test_the_published_calls_of_two_screens_are_read_whole(shared_data):
    for screen in ("k562", "rpe1"):
        path = shared_data / "effects" / f"{screen}-dir.csv"
        table, frame = read_effects(path, in_context=screen), pd.read_csv(path)
        assert table.measured.sum() == len(frame)
        wide = frame.pivot(index="pert", columns="gene", values="label").loc[table.perturbations, table.genes]
        np.testing.assert_array_equal(table.effects, wide.to_numpy(np.float32))
        assert (table.scale, set(table.contexts)) == ("label", {screen})


def test_a_refusal_is_an_input_problem_that_names_the_file(written):
    with pytest.raises(InputProblems, match="effects.csv: 1 problem"):
        read_effects(written(LONG + "A,g1,9,\n"))
