"""Which pooling a stored vector is, found by doing it again."""

from __future__ import annotations

import numpy as np
import pytest

from stateshift.errors import StateshiftError
from stateshift.proteins import Recipe, fill_store, load_esm2
from stateshift.proteins.explore.stored.embeddings import Embeddings, read_embeddings
from stateshift.proteins.explore.stored.pooled_as import pooling_of

LENGTHS = {"a": 8, "b": 30}


def held(pooling, extra=0, dtype=np.float32):
    rng = np.random.default_rng(1)
    rows = {id: rng.standard_normal((length + extra, 6)).astype(dtype) for id, length in LENGTHS.items()}
    return Embeddings("x.h5", "made", rows, {id: pooling(r.astype(np.float64)).astype(dtype) for id, r in rows.items()})


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize(
    ("pooling", "extra", "name"),
    [
        (lambda r: r.mean(0), 0, "mean"),
        (lambda r: r.max(0), 0, "max"),
        (lambda r: r.sum(0), 0, "sum"),
        (lambda r: r.mean(0) / np.linalg.norm(r.mean(0)), 0, "mean, unit length"),
        (lambda r: r[1:-1].mean(0), 2, "mean"),
        (lambda r: r.mean(0), 2, "mean with BOS and EOS"),
        (lambda r: r[0], 2, "CLS, the BOS row"),
        (lambda r: r[-1], 2, "the EOS row"),
    ],
)
def test_each_pooling_is_recognised_and_no_other_comes_near(pooling, extra, name, dtype):
    report = pooling_of(held(pooling, extra, dtype), LENGTHS)
    assert report.fitting == [name]
    first, second = sorted(report.beyond_rounding.values())[:2]
    assert first <= 1 < 10 < second
    assert report.n_proteins == 2


def test_without_lengths_both_readings_of_the_rows_are_tried_and_named():
    assert pooling_of(held(lambda r: r.mean(0))).fitting == [
        "mean (if rows are residues)",
        "mean with BOS and EOS (if the rows hold BOS and EOS)",
    ]
    assert pooling_of(held(lambda r: r[1:-1].mean(0), 2)).fitting == ["mean (if the rows hold BOS and EOS)"]


def test_what_is_no_pooling_of_the_rows_is_said_with_the_nearest_and_how_far_off_it_is():
    made = held(lambda r: r.mean(0))
    made.proteins["b"] = made.proteins["b"] + np.float32(0.25)
    report = pooling_of(made, LENGTHS)
    assert report.fitting == []
    assert next(iter(report.differences.items())) == ("mean", pytest.approx(0.25, abs=1e-6))
    assert report.at["mean"] == "b"


def of_checkpoint(tmp_path, pooling, half):
    """A store of the demo model: columns of very different size, a few of them far above all others."""
    sequences = {f"p{n}": "".join(np.random.default_rng(n).choice(list("LAGVSERTIDPKQNFYMHWC"), n)) for n in (40, 60)}
    part, recipe = tmp_path / "x.h5.part", Recipe(("residue", "protein"), pooling=pooling, half=half)
    fill_store(load_esm2(precision="fp32"), part, sequences, recipe).finish(tmp_path / "x.h5")
    return read_embeddings(tmp_path / "x.h5")


@pytest.mark.parametrize("half", [True, False])
def test_a_mean_over_bos_and_eos_too_is_not_taken_for_the_mean_over_residues(tmp_path, half):
    report = pooling_of(of_checkpoint(tmp_path, "mean_bos_eos", half))
    assert report.fitting == []
    assert report.verdict.startswith("mean_bos_eos, as the file says of itself")


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_half_precision_rows_still_show_their_pooling_and_it_alone(tmp_path, pooling, half):
    assert pooling_of(of_checkpoint(tmp_path, pooling, half)).fitting == [pooling]


def test_a_pooling_that_the_rows_cannot_show_is_the_one_that_the_store_names(tmp_path):
    report = pooling_of(of_checkpoint(tmp_path, "cls", half=False))
    assert report.fitting == []
    assert report.verdict == (
        "cls, as the file says of itself; its residue rows can't show it, since they are without the row of BOS"
    )


def test_a_store_brings_its_own_lengths(store):
    assert pooling_of(read_embeddings(store)).fitting == ["mean"]


def test_one_level_alone_and_lengths_that_fit_neither_way_are_refused():
    made = held(lambda r: r.mean(0))
    with pytest.raises(StateshiftError, match="holds the residue level alone"):
        pooling_of(Embeddings("x.h5", "made", made.residues))
    with pytest.raises(StateshiftError, match=r"1 ids have neither L nor L \+ 2 rows \(a\)"):
        pooling_of(made, {"a": 9, "b": 30})
