GENES = [f"GENE{i}" for i in range(20)]
IDS = [f"ENSG{i:011d}" for i in range(1, 21)]
TRAIN = '[training]\none = "train"\n'
BOTH = '[training]\none = "train"\ntwo = "train"\n'


def screen(*perturbations):
    return [("K562", p) for p in ("non-targeting", *perturbations)]


def test_perturbed_genes_that_are_not_measured_are_counted_and_named(write_file, experiment, notes):
    write_file("one", screen("GENE1", "TP53", "GENE2+KLF1"), genes=GENES)
    assert "2 of 4 perturbed genes are not measured, no var_name is theirs: KLF1, TP53." in notes(experiment(TRAIN))


def test_var_names_that_are_numbers_are_told_of(write_file, experiment, notes):
    write_file("one", screen("TP53"), genes=[str(i) for i in range(20)])
    assert any("TP53; var_names are numbers: name the genes." in note for note in notes(experiment(TRAIN)))


def test_names_made_unique_are_noted_where_the_name_itself_is_there(write_file, experiment, notes):
    write_file("one", screen("GENE1"), genes=[*GENES, "TBCE", "TBCE-1", "ODD.1", "ODD", "NKX2-1", "AC01.1"])
    assert (
        "2 var_names look like copies made unique (TBCE-1, ODD.1 beside TBCE): they are taken for genes of their own; "
        "sum or drop them where they are not." in notes(experiment(TRAIN))
    )


def test_repeated_names_are_refused(write_file, experiment, problems):
    write_file("one", screen("GENE1"), genes=[*GENES, "TBCE", "TBCE"])
    (said,) = problems(experiment(TRAIN))
    assert "one.h5ad: var_names hold TBCE more than once: sum or drop the copies" in said


def test_versions_are_noted_in_one_file(write_file, experiment, notes):
    write_file("one", screen(IDS[0]), genes=[f"{g}.{i}" for i, g in enumerate(IDS)])
    (said,) = [n for n in notes(experiment(TRAIN)) if "versions" in n]
    assert said.startswith(
        "20 var_names carry versions (ENSG00000000001.0, ENSG00000000002.1, ENSG00000000003.2 and 17 more)"
    )
    assert 'adata.var_names.str.replace(r"\\.\\d+$", "", regex=True)' in said


def test_versions_that_differ_between_files_are_refused(write_file, experiment, problems):
    write_file("one", screen(IDS[0]), genes=[f"{g}.1" for g in IDS])
    write_file("two", screen(IDS[0]), genes=[f"{g}.{1 + (i < 3)}" for i, g in enumerate(IDS)], seed=1)
    (said,) = problems(experiment(BOTH))
    assert said.startswith(
        "3 genes carry versions in var_names that differ between the files, which would leave them out "
        "(ENSG00000000001.1 in one.h5ad, ENSG00000000001.2 in two.h5ad): strip them, adata.var_names"
    )


def test_ids_against_symbols_name_the_column_that_fits(write_file, experiment, notes):
    def add_symbols(adata):
        adata.var["gene_symbol"] = [f"SYM{i}" for i in range(20)]
        adata.var["feature_type"] = "Gene Expression"

    write_file("one", screen("TP53", "KLF1"), genes=IDS, change=add_symbols)
    found = notes(experiment(TRAIN))
    (said,) = [n for n in found if "joined by name" in n]
    assert said.startswith(
        "var_names are Ensembl ids (ENSG00000000001, ENSG00000000002 and 18 more), and perturbations are not (KLF1, TP53): "
    )
    assert "the symbols are in var column `gene_symbol` of one.h5ad" in said
    assert not [n for n in found if "not measured" in n]


def test_symbols_against_ids_name_the_column_that_fits(write_file, experiment, notes):
    def add_ids(adata):
        adata.var["gene_ids"] = IDS
        adata.var["n_cells"] = 3

    write_file("one", screen(*IDS[:2]), genes=GENES, change=add_ids)
    (said,) = [n for n in notes(experiment(TRAIN)) if "joined by name" in n]
    assert "the Ensembl ids are in var column `gene_ids` of one.h5ad" in said


def test_ids_without_any_symbols_say_so(write_file, experiment, notes):
    write_file("one", screen("TP53", "KLF1"), genes=IDS)
    assert [n for n in notes(experiment(TRAIN)) if n.endswith("no var column looks like symbols.")]


def test_perturbations_that_name_no_genes_are_refused_together(write_file, experiment, problems):
    write_file("one", screen("A+", "B+B", "C"), genes=GENES)
    said = problems(experiment(TRAIN))
    assert said == [
        "obs: The perturbation `A+` names no gene: write A, or A+B for a double.",
        "obs: The perturbation `B+B` names a gene twice.",
    ]
