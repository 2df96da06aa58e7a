import pytest

HELD_OUT = '[training]\none = "train"\n[fewshot."one.K562"]\ntest = ["{}"]\n'
HGNC = (
    "hgnc_id\tsymbol\talias_symbol\tprev_symbol\tensembl_gene_id\n"
    "1\tVIRMA\tfSAP121|MSTP054\tKIAA1429\tENSG00000164944\n"
    "2\tCRYBG1\t\tAIM1\tENSG00000112297\n"
    "3\tAURKB\tAIM1|STK12\t\tENSG00000178999\n"
    "4\tMETTL3\t\t\tENSG00000165819\n"
)


@pytest.fixture
def hgnc(cache):
    (cache / "hgnc").mkdir(parents=True)
    table = cache / "hgnc" / "hgnc_complete_set.txt"
    table.write_text(HGNC)
    return table


def screen(*perturbations):
    return [("K562", p) for p in ("non-targeting", *perturbations)]


@pytest.mark.parametrize("old", ["KIAA1429", "fSAP121", "ENSG00000164944", "ENSG00000164944.9"])
def test_a_gene_held_out_under_its_new_name_and_trained_under_its_old_is_refused(
    write_file, experiment, problems, hgnc, old
):
    write_file("one", screen("VIRMA", old, "METTL3"))
    first, second = sorted(["VIRMA", old])
    splits = {"VIRMA": "test", old: "train"}
    assert problems(experiment(HELD_OUT.format("VIRMA"))) == [
        f"perturbations `{first}` and `{second}` name one gene (HGNC), in several splits: `{first}` is in {splits[first]}; "
        f"`{second}` is in {splits[second]}. Give the gene one name in obs."
    ]


def test_an_old_name_within_a_double_counts(write_file, experiment, problems, hgnc):
    write_file("one", screen("VIRMA", "KIAA1429+METTL3", "METTL3"))
    assert "`KIAA1429` and `VIRMA` name one gene" in problems(experiment(HELD_OUT.format("VIRMA")))[0]


def test_an_alias_of_several_genes_is_no_gene_but_itself(write_file, experiment, notes, hgnc):
    write_file("one", screen("AIM1", "AURKB", "CRYBG1"))
    assert not [n for n in notes(experiment(HELD_OUT.format("AURKB"))) if "name one gene" in n or "HGNC" in n]


def test_two_names_that_both_train_are_noted(write_file, experiment, notes, hgnc):
    write_file("one", screen("VIRMA", "KIAA1429", "METTL3"))
    assert (
        "Perturbations `KIAA1429` and `VIRMA` name one gene (HGNC) and are taken for 2: give it one name in obs."
        in notes(experiment(HELD_OUT.format("METTL3")))
    )


def test_without_the_table_spellings_are_compared_and_that_is_said(write_file, experiment, problems, notes):
    write_file("one", screen("HLA-A", "HLA.A", "VIRMA", "KIAA1429"))
    assert problems(experiment(HELD_OUT.format("HLA-A"))) == [
        "perturbations `HLA-A` and `HLA.A` name one gene (in two spellings), in several splits: `HLA-A` is in test; `HLA.A` "
        "is in train. Give the gene one name in obs."
    ]
    assert (
        "Old and new symbols of one gene were not looked for, only spellings: HGNC's table is not here "
        "(stateshift data get hgnc)." in notes(experiment(HELD_OUT.format("VIRMA")))
    )


def test_a_table_that_is_something_else_is_named(write_file, experiment, problems, hgnc):
    hgnc.write_text("symbol\tother\nA\tB\n")
    write_file("one", screen("VIRMA", "METTL3"))
    assert "hgnc_complete_set.txt is no table of HGNC" in problems(experiment(HELD_OUT.format("VIRMA")))[0]


def test_genes_measured_under_old_and_new_names_are_noted_as_left_out(write_file, experiment, notes, hgnc):
    shared = [f"GENE{i}" for i in range(20)]
    write_file("one", screen("METTL3"), genes=["KIAA1429", "Actb", *shared])
    write_file("two", screen("METTL3"), genes=["VIRMA", "ACTB", *shared], seed=1)
    found = notes(experiment('[training]\none = "train"\ntwo = "train"\n'))
    assert (
        "2 genes that the files name differently are left out: KIAA1429 (one.h5ad) and VIRMA (two.h5ad), "
        "Actb (one.h5ad) and ACTB (two.h5ad). Name them alike in var_names." in found
    )
