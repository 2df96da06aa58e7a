"""Codes: unique, the same for the same vectors, and enough to rebuild what they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from stateshift.bioemb.codes import Codes, create_codes, fit_quantiser, make_codes
from stateshift.errors import StateshiftError
from stateshift.feature_table import FeatureTable


def table(vectors) -> FeatureTable:
    return FeatureTable([f"G{i}" for i in range(len(vectors))], vectors, {"source": "made"})


def normal(count: int, width: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def test_every_different_vector_gets_a_code_of_its_own():
    codes = make_codes(table(normal(300)))
    assert len(np.unique(codes.codes, axis=0)) == 300
    assert not codes.numbered
    assert codes.codes.max() < 15


def test_levels_stop_as_soon_as_all_codes_are_unique():
    quantiser, codes = fit_quantiser(normal(300))
    assert len(np.unique(codes[:, :-1], axis=0)) < 300
    assert quantiser.levels == codes.shape[1] == len(quantiser.errors)


def test_vectors_coded_again_get_the_codes_they_were_fitted_with_one_by_one_too():
    vectors = normal(200)
    quantiser, codes = fit_quantiser(vectors)
    np.testing.assert_array_equal(quantiser.codes(vectors), codes)
    np.testing.assert_array_equal(np.concatenate([quantiser.codes(v[None]) for v in vectors]), codes)


def test_the_error_of_a_level_is_what_the_rebuilt_vectors_miss_and_falls():
    vectors = normal(200)
    quantiser, codes = fit_quantiser(vectors)
    variance = np.square(vectors - vectors.mean(axis=0)).sum(axis=1).mean()
    for level in range(quantiser.levels):
        rebuilt = quantiser.reconstructed(codes[:, : level + 1])
        missed = np.square(vectors - rebuilt).sum(axis=1).mean() / variance
        assert quantiser.errors[level] == pytest.approx(missed, rel=1e-4)
    assert (np.diff(quantiser.errors) < 0).all()


def test_the_first_level_is_k_means():
    from sklearn.cluster import KMeans

    vectors = normal(120)
    _, codes = fit_quantiser(vectors, k=5, seed=7)
    labels = KMeans(5, n_init=1, max_iter=50, random_state=7).fit(vectors).labels_
    np.testing.assert_array_equal(codes[:, 0], labels)


def test_each_level_takes_the_nearest_centroid_whatever_is_added_to_all_vectors():
    vectors = normal(200) + 10_000
    quantiser, codes = fit_quantiser(vectors)
    away = vectors[:, None].astype(np.float64) - quantiser.centroids[0]
    np.testing.assert_array_equal(codes[:, 0], np.square(away).sum(axis=2).argmin(axis=1))
    assert quantiser.errors[0] < 1


def test_identical_vectors_share_a_code_and_are_told_as_aliases():
    vectors = normal(40)
    vectors[7], vectors[30], vectors[31] = vectors[3], vectors[3], vectors[0]
    codes = make_codes(table(vectors))
    assert len(codes.codes) == 37
    assert codes.aliases == {"G7": "G3", "G30": "G3", "G31": "G0"}
    assert codes.entity[7] == codes.entity[30] == codes.entity[3]
    assert codes.names[codes.entity[30]] == "G3"
    np.testing.assert_array_equal(codes.quantiser.codes(vectors), codes.codes[codes.entity])


def test_minus_zero_is_zero():
    vectors = normal(30)
    vectors[4, 0], vectors[5] = 0.0, vectors[4]
    vectors[5, 0] = -0.0
    assert make_codes(table(vectors)).aliases == {"G5": "G4"}


def test_where_levels_run_out_a_last_token_numbers_those_alike():
    vectors = normal(100)
    codes = make_codes(table(vectors), k=3, max_levels=2)
    assert codes.numbered
    assert codes.codes.shape == (100, 3)
    assert len(np.unique(codes.codes, axis=0)) == 100
    groups = {}
    for *levels, number in codes.codes.tolist():
        groups.setdefault(tuple(levels), []).append(number)
    assert all(numbers == list(range(len(numbers))) for numbers in groups.values())
    assert codes.tokens == max(map(len, groups.values()))


def test_shuffled_codes_are_the_same_codes_on_other_entities():
    codes = make_codes(table(normal(50)))
    other = codes.shuffled(0)
    assert (other.codes != codes.codes).any(axis=1).mean() > 0.8
    np.testing.assert_array_equal(np.unique(other.codes, axis=0), np.unique(codes.codes, axis=0))


def test_codes_are_read_as_they_were_written(tmp_path):
    vectors = normal(60)
    vectors[9] = vectors[2]
    table(vectors).save(tmp_path / "t.pt")
    made = create_codes(tmp_path / "t.pt", tmp_path / "c.npz", k=4)
    read = Codes.load(tmp_path / "c.npz")
    assert (read.genes, read.aliases, read.quantiser.errors) == (made.genes, {"G9": "G2"}, made.quantiser.errors)
    np.testing.assert_array_equal(read.codes, made.codes)
    np.testing.assert_array_equal(read.quantiser.codes(normal(5, seed=3)), made.quantiser.codes(normal(5, seed=3)))


def test_an_existing_file_is_kept_unless_it_may_be_replaced(tmp_path):
    table(normal(30)).save(tmp_path / "t.pt")
    create_codes(tmp_path / "t.pt", tmp_path / "c.npz")
    with pytest.raises(StateshiftError, match="exists already.*--overwrite"):
        create_codes(tmp_path / "t.pt", tmp_path / "c.npz")
    assert create_codes(tmp_path / "t.pt", tmp_path / "c.npz", k=4, overwrite=True).quantiser.k == 4


@pytest.mark.parametrize("content", [b"", b"not an archive"])
def test_a_damaged_file_is_no_codes(content, tmp_path):
    (tmp_path / "c.npz").write_bytes(content)
    with pytest.raises(StateshiftError, match=r"is damaged: .* Make codes anew"):
        Codes.load(tmp_path / "c.npz")


@pytest.mark.parametrize("name", ["genes", "entity", "codes", "centroids"])
def test_codes_of_other_genes_or_centroids_are_refused(name, tmp_path):
    table(normal(30)).save(tmp_path / "t.pt")
    create_codes(tmp_path / "t.pt", tmp_path / "c.npz")
    with np.load(tmp_path / "c.npz") as held:
        arrays = dict(held)
    np.savez(tmp_path / "d.npz", **arrays | {name: arrays[name][:-1] if name != "centroids" else arrays[name][0]})
    with pytest.raises(StateshiftError, match=r"d\.npz is damaged: its .* Make codes anew"):
        Codes.load(tmp_path / "d.npz")


def test_an_archive_with_python_objects_is_not_unpickled(tmp_path):
    np.savez(tmp_path / "c.npz", centroids=np.array([{"a": 1}], dtype=object))
    with pytest.raises(StateshiftError, match=r"is damaged: .* Make codes anew"):
        Codes.load(tmp_path / "c.npz")


def test_fewer_entities_than_centroids_are_refused():
    with pytest.raises(StateshiftError, match=r"9 different vectors can't fill 15 centroids.*smaller k"):
        make_codes(table(normal(9)))


def test_vectors_that_are_all_the_same_tell_nothing_apart():
    with pytest.raises(StateshiftError, match=r"All vectors of the table are the same \(A, B\)"):
        make_codes(FeatureTable(["A", "B"], np.ones((2, 3))), k=2)
    with pytest.raises(StateshiftError, match="holds A alone: a code tells genes apart"):
        make_codes(FeatureTable(["A"], np.ones((1, 3))), k=2)


def test_copies_do_not_count_as_entities():
    with pytest.raises(StateshiftError, match="2 different vectors can't fill"):
        make_codes(table(np.repeat(np.eye(2), 10, axis=0)))


def test_constant_columns_are_told_and_do_no_harm(caplog):
    vectors = np.column_stack([normal(40), np.full(40, 5.0)])
    with caplog.at_level("INFO", logger="stateshift"):
        codes = make_codes(table(vectors))
    assert "1 of 7 columns are the same for every gene" in caplog.text
    assert len(np.unique(codes.codes, axis=0)) == 40


def test_new_vectors_of_another_width_are_refused():
    quantiser, _ = fit_quantiser(normal(30))
    with pytest.raises(StateshiftError, match="vectors with 6 values, not 5"):
        quantiser.codes(normal(3, width=5))
