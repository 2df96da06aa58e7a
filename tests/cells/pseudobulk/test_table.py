import dataclasses
import zipfile

import numpy as np
import pytest

from stateshift.cells import EffectTable, estimate_effects, read_cells
from stateshift.errors import StateshiftError


def assert_same(a: EffectTable, b: EffectTable) -> None:
    for field in dataclasses.fields(EffectTable):
        one, other = getattr(a, field.name), getattr(b, field.name)
        if isinstance(one, dict):
            assert list(one) == list(other)
            one, other = list(one.values()), list(other.values())
        np.testing.assert_array_equal(one, other, err_msg=field.name)


def test_a_table_survives_its_file(screen, tmp_path):
    table = estimate_effects(read_cells(screen.cells))
    table.save(tmp_path / "effects.npz")
    again = EffectTable.load(tmp_path / "effects.npz")
    assert_same(again, table)
    assert set(again.control_means) == {"A549", "K562", "T98G"}
    assert again.effects.dtype == again.shrunk.dtype == np.float32


def test_a_table_that_knows_all_or_little_survives_its_file(whole_table, tmp_path):
    little = EffectTable(["g"], ["A"], ["c"], np.array([[1.0]], dtype=np.float32), None, {})
    for name, table in (("whole", whole_table), ("little", little)):
        table.save(tmp_path / f"{name}.npz")
        assert_same(EffectTable.load(tmp_path / f"{name}.npz"), table)


def test_the_file_holds_no_pickle(whole_table, tmp_path):
    whole_table.save(tmp_path / "effects.npz")
    with np.load(tmp_path / "effects.npz", allow_pickle=False) as stored:
        assert all(stored[name].dtype != object for name in stored)


def test_a_damaged_file_is_refused_in_words(whole_table, tmp_path):
    whole_table.save(tmp_path / "effects.npz")
    (tmp_path / "effects.npz").write_bytes((tmp_path / "effects.npz").read_bytes()[:300])
    with pytest.raises(StateshiftError, match=r"effects.npz is damaged: .* Copy the run anew"):
        EffectTable.load(tmp_path / "effects.npz")
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as other:
        other.writestr("genes.npy", b"no array")
    with pytest.raises(StateshiftError, match=r"other.npz is damaged"):
        EffectTable.load(tmp_path / "other.npz")


def test_parts_that_do_not_fit_each_other_are_refused(whole_table, tmp_path):
    whole_table.save(tmp_path / "effects.npz")
    with np.load(tmp_path / "effects.npz") as stored:
        arrays = dict(stored)
    infinite = np.where(np.arange(len(arrays["effects"]))[:, None] == 1, np.inf, arrays["effects"])
    for changes in ({"control_means": arrays["control_means"][:-1]}, {"effects": infinite}, {"contexts": np.ones(3)}):
        np.savez(tmp_path / "other.npz", **arrays | changes)
        with pytest.raises(StateshiftError, match=r"other.npz is damaged: .* Copy the run anew"):
            EffectTable.load(tmp_path / "other.npz")
    np.savez(tmp_path / "whole.npz", **arrays | {"effects": np.zeros(arrays["effects"].shape, int)})
    assert EffectTable.load(tmp_path / "whole.npz").effects.dtype == np.float32


def test_rows_take_all_that_is_known_of_them(whole_table):
    kept = whole_table.rows(np.array([True, False, True]))
    assert (kept.perturbations, kept.contexts) == (["A", "A"], ["K562", "T98G/late"])
    assert kept.n_controls.tolist() == [100, 12]
    np.testing.assert_array_equal(kept.standard_error, whole_table.standard_error[[0, 2]])
    assert (kept.scale, kept.simulated, len(kept.control_means)) == ("log1p_1e4", True, 3)


def test_columns_take_the_control_means_along(whole_table):
    kept = whole_table.columns(whole_table.measured.all(axis=0))
    assert kept.genes == ["g1", "g2", "g4"]
    np.testing.assert_array_equal(kept.shrunk, whole_table.shrunk[:, [0, 1, 3]])
    np.testing.assert_array_equal(kept.control_means["unseen"], whole_table.control_means["unseen"][[0, 1, 3]])


def test_arrays_of_another_shape_and_repeated_names_are_refused():
    one = np.ones((1, 1))
    with pytest.raises(StateshiftError, match=r"1 rows and 2 genes needs effects of shape \(1, 2\), not \(1, 1\)"):
        EffectTable(["g", "h"], ["A"], ["c"], one, None, {})
    with pytest.raises(StateshiftError, match="names genes more than once: g"):
        EffectTable(["g", "g"], ["A"], ["c"], np.ones((1, 2)), None, {})
    with pytest.raises(StateshiftError, match="names pairs more than once: c / A"):
        EffectTable(["g"], ["A", "A"], ["c", "c"], np.ones((2, 1)), None, {})
