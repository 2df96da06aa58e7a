"""A tiny aggregator really trained: it learns groups it never saw a member pair of, and keeps its best weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from stateshift.errors import StateshiftError
from stateshift.structure.aggregator import aggregate, load_aggregator
from stateshift.structure.training import Pairs, TrainingSettings, train_aggregator
from stateshift.structure.training.from_files import _chains, train_from_files
from stateshift.structure.training.train import split
from stateshift.structure.training.twin import PairData, Twin, pr_auc

CPU = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False}
SMALL = TrainingSettings(
    hidden=32, layers=1, blocks=1, epochs=8, pairs_per_epoch=256, batch_size=32, learning_rate=3e-3, dropout=0.0
)


@pytest.fixture(scope="module")
def groups():
    """Twelve groups of eight: a chain's rows are noise around its group's two kinds of residue."""
    rng = np.random.default_rng(0)
    rows, group = {}, {}
    for g in range(12):
        kinds = rng.standard_normal((2, 10))
        for i in range(8):
            length = int(rng.integers(6, 20))
            picked = kinds[rng.integers(2, size=length)] + 1.5 * rng.standard_normal((length, 10))
            rows[f"g{g}_{i}"], group[f"g{g}_{i}"] = torch.tensor(picked, dtype=torch.float32), g
    names = list(rows)
    index = np.array([(i, j) for i in range(len(names)) for j in range(i)])
    same = np.array([group[names[i]] == group[names[j]] for i, j in index])
    return rows, Pairs(names, index, np.where(same, 0.9, 0.2).astype(np.float32)), group


def separation(model, rows, group, chosen) -> float:
    """PR-AUC of pairs of one group among chosen groups."""
    names = [name for name in rows if group[name] in chosen]
    vectors = torch.nn.functional.normalize(aggregate(model, [rows[name] for name in names]), dim=1)
    pairs = [(i, j) for i in range(len(names)) for j in range(i)]
    cosines = np.array([float(vectors[i] @ vectors[j]) for i, j in pairs])
    return pr_auc(cosines, np.array([group[names[i]] == group[names[j]] for i, j in pairs]))


def test_it_learns_to_tell_groups_apart_that_it_never_saw(groups, tmp_path):
    rows, pairs, group = groups
    seen, val, test = set(range(8)), {8, 9}, {10, 11}
    of = [{n for n in rows if group[n] in part} for part in (seen, val)]
    told = {"model": "made", "model_sha256": "", "geometry": False}
    output = tmp_path / "a.pt"
    trained = train_aggregator(pairs.among(of[0]), rows, told, output, SMALL, pairs.among(of[1]), CPU)
    first = Twin(type(trained.model)(trained.model.shape), 1e-3, 1, 1).model.eval()
    assert separation(trained.model, rows, group, seen) > separation(first, rows, group, seen) + 0.05
    assert separation(trained.model, rows, group, test) > 0.6
    assert load_aggregator(output).residues == told
    course = np.genfromtxt(output.with_name("a.pt.metrics.csv"), delimiter=",", names=True)
    assert len(course) == 8
    # the file holds the best epoch's weights, whatever came after
    assert trained.training["val_pr_auc"] == pytest.approx(course["val_pr_auc"].max())
    assert separation(trained.model, rows, group, val) == pytest.approx(course["val_pr_auc"].max(), abs=1e-5)
    assert course["train_loss"][-1] < course["train_loss"][0]


def test_a_stopped_training_goes_on_by_the_same_call_and_ends_as_one_never_stopped(groups, tmp_path, monkeypatch):
    rows, pairs, _ = groups
    settings = TrainingSettings(hidden=16, layers=1, blocks=1, epochs=2, pairs_per_epoch=64, val_share=0.2)
    whole = train_aggregator(pairs, rows, {}, tmp_path / "whole.pt", settings, None, CPU)
    start = Twin.on_train_epoch_start

    def stopped(twin: Twin) -> None:
        if twin.current_epoch == 1:
            raise RuntimeError("killed")
        start(twin)

    monkeypatch.setattr(Twin, "on_train_epoch_start", stopped)
    again = tmp_path / "again.pt", settings, None, CPU
    with pytest.raises(RuntimeError, match="killed"):
        train_aggregator(pairs, rows, {}, *again)
    monkeypatch.undo()
    assert not (tmp_path / "again.pt").exists()
    with pytest.raises(
        StateshiftError, match=r"again\.pt\.resume is of a training with another seed: go on with its own"
    ):
        train_aggregator(pairs, rows, {}, tmp_path / "again.pt", replace(settings, seed=1), None, CPU)
    parted = train_aggregator(pairs, rows, {}, *again)
    assert parted.training == whole.training
    for a, b in zip(parted.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(a, b)
    course = [(tmp_path / f"{name}.pt.metrics.csv").read_text() for name in ("again", "whole")]
    assert course[0] == course[1]
    assert {path.name for path in tmp_path.iterdir()} == {
        "again.pt", "again.pt.metrics.csv", "whole.pt", "whole.pt.metrics.csv",
    }  # fmt: skip


def test_a_split_shares_no_chain(groups):
    _, pairs, _ = groups
    train, val = split(pairs, 0.3, seed=1)
    assert set(train.index.ravel()).isdisjoint(val.index.ravel())
    assert len(val) > 0


def test_few_chains_are_split_so_that_both_kinds_of_pairs_are_held_out(groups):
    _, pairs, _ = groups
    for seed in range(5):
        _, val = split(pairs, 0.04, seed)
        assert len(val) == 6
        assert 0 < (val.similarity >= 0.5).sum() < 6


def test_a_batch_holds_each_chain_once_and_similarities_rounded(groups):
    rows, pairs, _ = groups
    data = PairData(
        Pairs(pairs.names, np.array([[0, 1], [1, 2], [0, 2]]), np.array([0.87, 0.23, 0.47], np.float32)), rows
    )
    batch = data.collate([0, 1, 2])
    assert len(batch.lengths) == 3
    assert batch.index.tolist() == [[0, 1], [1, 2], [0, 2]]
    np.testing.assert_allclose(batch.similarity, [0.9, 0.2, 0.5], atol=1e-6)
    # what shares a fold is asked before rounding
    assert batch.alike.tolist() == [True, False, False]


def test_what_cannot_be_trained_on_is_told(groups, tmp_path):
    rows, pairs, _ = groups
    with pytest.raises(StateshiftError, match="1 of 96 chains of the pairs have no residue rows: g0_0"):
        train_aggregator(pairs, {k: v for k, v in rows.items() if k != "g0_0"}, {}, tmp_path / "a.pt", SMALL)
    alike = Pairs(pairs.names, pairs.index, np.full(len(pairs), 0.9, np.float32))
    with pytest.raises(StateshiftError, match="by telling both kinds apart"):
        train_aggregator(alike, rows, {}, tmp_path / "a.pt", SMALL)
    with pytest.raises(StateshiftError, match="Of 4560 validation pairs 4560 are of one fold"):
        train_aggregator(pairs, rows, {}, tmp_path / "a.pt", SMALL, alike)
    (tmp_path / "there.pt").write_bytes(b"")
    with pytest.raises(StateshiftError, match="exists already"):
        train_aggregator(pairs, rows, {}, tmp_path / "there.pt", SMALL)
    with pytest.raises(StateshiftError, match="epochs and batch_size must be 1 or more"):
        TrainingSettings(epochs=0, batch_size=0)
    with pytest.raises(StateshiftError, match="--learning-rate must be above 0, not nan"):
        TrainingSettings(learning_rate=float("nan"))


def test_a_table_of_structures_gives_the_chains_that_it_names(write_pdb):
    path = write_pdb("two.pdb", {"A": "MKVLAGST", "B": "GGSLLKK"})
    table = path.with_name("t.csv")
    table.write_text("two,two.pdb,B,second\ntwo,two.pdb,,\n")
    assert {name: chain.sequence for name, chain in _chains(table).items()} == {"second": "GGSLLKK", "two": "MKVLAGST"}
    fasta = path.with_name("s.fasta")
    fasta.write_text(">a\nMKV\n")
    with pytest.raises(StateshiftError, match="holds sequences, not structures: hand it over with --fasta"):
        _chains(fasta)


def test_from_sequences_and_classes_and_from_structures_by_tm_scores(shared_data, tmp_path):
    tiny = TrainingSettings(hidden=16, layers=1, blocks=1, epochs=1, pairs_per_epoch=16, batch_size=8, val_share=0.4)
    proteins, cath = shared_data / "proteins", shared_data / "structure" / "cath"
    some = [
        line
        for line in (proteins / "scop40_classes.tsv").read_text().splitlines()
        if "\ta.1.1" in line or "\ta.2." in line
    ]
    (tmp_path / "c.tsv").write_text("\n".join(some))
    trained = train_from_files(
        tmp_path / "scop.pt", fasta=proteins / "scop40.fasta", classes=tmp_path / "c.tsv", pairs_per_level=40,
        settings=tiny, trainer_options=CPU,
    )  # fmt: skip
    assert (trained.model.shape.width, trained.geometry) == (128, False)
    place = tmp_path / "few"
    place.mkdir()
    for name in ("1igdA00", "1cc8", "1dj0A02", "1kl9A02", "1b3tA00", "1jb3A00", "1c4qA00"):
        for file in cath.glob(f"{name}*.pdb"):
            (place / file.name).write_bytes(file.read_bytes())
    trained = train_from_files(
        tmp_path / "tm.pt", structures=place, geometry=True,
        settings=TrainingSettings(hidden=16, layers=1, blocks=1, epochs=1, pairs_per_epoch=16, val_share=0.6),
        val_pairs=val_table(tmp_path, place), trainer_options=CPU,
    )  # fmt: skip
    assert (trained.model.shape.width, trained.geometry) == (137, True)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "Name the chains by one of"),
        ({"fasta": "f.fasta", "structures": "s"}, "Name the chains by one of"),
        ({"fasta": "f.fasta", "pairs": "p.csv", "classes": "c.tsv"}, "choose one"),
        ({"fasta": "f.fasta", "geometry": True}, "--geometry needs --structures"),
        ({"fasta": "f.fasta"}, "is to be said by --pairs or --classes"),
        ({"structures": "f.fasta"}, "holds sequences, not structures: hand it over with --fasta"),
        ({"structures": "s", "classes": "c.tsv"}, r"(?s)1 structures can't be trained on: .*broken\.pdb"),
    ],
)
def test_training_from_what_contradicts_itself_is_refused_before_anything_is_loaded(tmp_path, given, words):
    (tmp_path / "f.fasta").write_text(">a\nMKLA\n>b\nMKLG\n")
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "broken.pdb").write_text("no atoms\n")
    given = {name: tmp_path / value if isinstance(value, str) else value for name, value in given.items()}
    with pytest.raises(StateshiftError, match=words):
        train_from_files(tmp_path / "x.pt", **given)


def val_table(folder, structures):
    """A table of three pairs among some structures."""
    a, b, c = sorted(f.stem for f in structures.iterdir())[:3]
    path = folder / "val.csv"
    path.write_text(f"a,b,tm\n{a},{b},0.7\n{a},{c},0.2\n{b},{c},0.3\n")
    return path
