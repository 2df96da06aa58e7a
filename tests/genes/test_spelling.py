import pytest

from stateshift.genes.spelling import alike, folded


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("K562", "k562"),
        ("K562", "K-562"),
        ("K562", "K562 "),
        ("T cell", "T_cell"),
        ("T cell", "t-Cell"),
        ("HLA-A", "HLA.A"),
    ],
)
def test_spellings_of_one_name_fold_alike(one, other):
    assert folded(one) == folded(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("CD4+ T", "CD4- T"), ("CD4+", "CD4"), ("CD4-", "CD4"), ("KRTAP1-1", "KRTAP11"), ("cluster 1 1", "cluster 11")],
)
def test_signs_at_word_ends_and_between_digits_tell_names_apart(one, other):
    assert folded(one) != folded(other)


def test_no_two_of_the_challenges_genes_fold_alike(shared_data):
    genes = (shared_data / "challenge" / "gene_names_2025.csv").read_text().split()
    assert len(genes) == 18_080
    assert alike(genes) == []
