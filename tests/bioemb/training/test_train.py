"""Training: what it learns, what it writes, and that a stopped one ends like one never stopped."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch

from stateshift.bioemb.codes import Codes
from stateshift.bioemb.model import PRESETS
from stateshift.bioemb.settings import read_settings
from stateshift.bioemb.trained import open_bioemb
from stateshift.bioemb.training.train import train_bioemb
from stateshift.errors import InputProblems, StateshiftError
from stateshift.feature_table import FeatureTable

pytestmark = pytest.mark.usefixtures("tiny", "table")


def course(folder) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as handle:
        return list(csv.DictReader(handle))


def test_a_training_learns_to_name_every_gene(overrides, table):
    learn = ("training.epochs=150", "training.learning_rate=5e-3", "training.measure_every=75")
    trained = train_bioemb("genes", overrides("run", *learn))
    assert float(course(trained.folder)[-1]["exact_code"]) >= 0.95
    decoder = trained.decoder
    names = trained.codes.names
    assert len(names) == 47
    vectors = torch.from_numpy(trained.embed(table.subset(names).vectors))
    greedy = decoder.greedy(vectors)
    assert (greedy == torch.arange(47)).float().mean() >= 0.95
    assert (decoder.beam(vectors, 3).entities[:, 0] == torch.arange(47)).float().mean() >= 0.95
    # as teacher-forced accuracy says, greedy decoding does
    assert (greedy == torch.arange(47)).float().mean().item() == pytest.approx(
        float(course(trained.folder)[-1]["exact_code"])
    )
    np.testing.assert_array_equal(trained.embed(table.subset(names).vectors.astype(np.float64)), vectors)
    best = decoder.log_likelihoods(vectors[:5]).argmax(1)
    assert (best == torch.arange(5)).float().mean() >= 0.8


@pytest.mark.parametrize("loss", ["weighted", "plain", "reference"])
@pytest.mark.parametrize("constraint", ["always", "never", "eval_only"])
def test_every_loss_and_constraint_lowers_the_loss(loss, constraint, overrides):
    how = (
        f"training.loss={loss}",
        f"training.constraint={constraint}",
        "training.epochs=12",
        "training.learning_rate=3e-3",
    )
    rows = course(train_bioemb("genes", overrides("run", *how)).folder)
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])


def test_without_the_trie_steps_that_the_weighted_loss_never_teaches_are_no_mistakes(overrides):
    how = (
        "training.constraint=never",
        "training.epochs=150",
        "training.learning_rate=5e-3",
        "training.measure_every=150",
    )
    assert float(course(train_bioemb("genes", overrides("run", *how)).folder)[-1]["exact_code"]) >= 0.7


def test_the_run_holds_the_fine_tuned_table_of_every_gene_aliases_too(overrides, table):
    trained = train_bioemb("genes", overrides())
    fine = FeatureTable.load(trained.folder / "features.pt")
    assert (fine.genes, fine.width) == (table.genes, 6)
    np.testing.assert_array_equal(fine.vectors[40], fine.vectors[3])
    linear = trained.model.to_bottleneck
    by_hand = (table.vectors - table.vectors[np.arange(48) != 40].mean(0)) / table.vectors[np.arange(48) != 40].std(0)
    by_hand = by_hand @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()
    np.testing.assert_allclose(fine.vectors, by_hand, atol=1e-4)
    assert (fine.provenance["fit"], fine.provenance["not_fitted"], fine.provenance["source"]) == (
        "transductive",
        [],
        "bioemb",
    )


def test_a_stopped_training_goes_on_to_the_same_end(overrides, tmp_path, monkeypatch):
    from stateshift.bioemb.training.recorder import Recorder

    monkeypatch.setitem(PRESETS["small"], "dropout", 0.3)
    whole = train_bioemb("genes", overrides("whole", "training.epochs=6"))

    # after four of six epochs, the schedule of the rate being that of six
    class Stop(Exception):
        pass

    ends = Recorder.on_train_epoch_end

    def stop_after_four(self, trainer, module):
        ends(self, trainer, module)
        if trainer.current_epoch == 3:
            raise Stop

    with monkeypatch.context() as patched:
        patched.setattr(Recorder, "on_train_epoch_end", stop_after_four)
        with pytest.raises(Stop):
            train_bioemb("genes", overrides("parted", "training.epochs=6"))
    with pytest.raises(StateshiftError, match=r"lacks model\.pt, features\.pt.*bioemb train --resume"):
        open_bioemb(tmp_path / "parted")
    last = tmp_path / "parted" / "checkpoints" / "last.ckpt"
    whole_last = last.read_bytes()
    middle = len(whole_last) // 2
    for damaged in (
        whole_last[:-500],
        whole_last[:middle] + bytes([whole_last[middle] ^ 64]) + whole_last[middle + 1 :],
    ):
        last.write_bytes(damaged)
        with pytest.raises(StateshiftError, match=r"last\.ckpt is damaged: "):
            train_bioemb(resume=tmp_path / "parted")
    last.write_bytes(whole_last)
    parted = train_bioemb(resume=tmp_path / "parted")
    np.testing.assert_array_equal(parted.fine_tuned().vectors, whole.fine_tuned().vectors)
    assert course(parted.folder) == course(whole.folder)
    assert [row["epoch"] for row in course(parted.folder)] == ["2", "4", "6"]
    with pytest.raises(StateshiftError, match="has all its 6 epochs"):
        train_bioemb(resume=tmp_path / "parted")


def test_a_run_killed_while_it_writes_its_end_gets_all_of_it(overrides, tmp_path):
    trained = train_bioemb("genes", overrides())
    vectors = trained.fine_tuned().vectors
    (trained.folder / "features.pt").unlink()
    (trained.folder / "recovery.csv").unlink()
    again = train_bioemb(resume=trained.folder)
    np.testing.assert_array_equal(again.fine_tuned().vectors, vectors)
    assert (trained.folder / "recovery.csv").is_file()


def test_held_out_genes_are_embedded_and_never_fitted(overrides, table, write, tmp_path):
    held = write("held.txt", "G1\nG40\nG7\nELSE\n")
    trained = train_bioemb("genes", overrides("run", f"data.held_out={held}"))
    assert set(table.genes) - set(trained.fitted) == {"G1", "G7", "G40"}
    fine = FeatureTable.load(trained.folder / "features.pt")
    assert fine.genes == table.genes
    assert (fine.provenance["fit"], fine.provenance["not_fitted"]) == ("training genes only", ["G1", "G7", "G40"])
    # other vectors of the genes held out change nothing that was learned
    other = table.vectors.copy()
    other[[1, 7, 40]] = 100.0
    FeatureTable(table.genes, other).save(tmp_path / "other.pt")
    quick = [o for o in overrides("again", f"data.held_out={held}") if not o.startswith("data.table")]
    again = train_bioemb("genes", [*quick, f"data.table={tmp_path / 'other.pt'}"])
    kept = [i for i in range(48) if i not in (1, 7, 40)]
    np.testing.assert_array_equal(again.fine_tuned().vectors[kept], fine.vectors[kept])


def test_shuffled_codes_are_those_of_other_genes(overrides, caplog):
    straight = train_bioemb("genes", overrides("straight"))
    assert "no narrower" not in caplog.text
    shuffled = train_bioemb("genes", overrides("shuffled", "codes.shuffled=true", "model.bottleneck=8"))
    assert "the bottleneck of 8 values is no narrower than the table's 8" in caplog.text
    np.testing.assert_array_equal(np.unique(straight.codes.codes, axis=0), np.unique(shuffled.codes.codes, axis=0))
    assert (straight.codes.codes != shuffled.codes.codes).any(axis=1).mean() > 0.8


def test_a_label_file_is_scored_as_the_training_goes(overrides, write):
    labels = write("l.csv", "name,label\n" + "".join(f"G{i},{'ab'[i // 8 % 2]}\n" for i in range(48)))
    rows = course(train_bioemb("genes", overrides("run", f"downstream.labels={labels}")).folder)
    assert all(0 <= float(row["downstream_AUROC"]) <= 1 for row in rows)
    assert len(rows) == 2


def test_labels_that_can_not_be_used_are_refused_before_a_run_is_written(overrides, write, tmp_path):
    labels = write("l.csv", "name,label\nG1,a\nG2,a\n")
    with pytest.raises(StateshiftError, match="one class alone, `a`"):
        train_bioemb("genes", overrides("run", f"downstream.labels={labels}"))
    assert not (tmp_path / "run").exists()


def test_a_run_is_never_overwritten_and_reads_back_as_trained(overrides):
    trained = train_bioemb("genes", overrides())
    with pytest.raises(StateshiftError, match="exists already"):
        train_bioemb("genes", overrides())
    read = open_bioemb(trained.folder)
    np.testing.assert_array_equal(read.fine_tuned().vectors, trained.fine_tuned().vectors)
    assert read.settings == read_settings("genes", overrides())
    assert Codes.load(trained.folder / "codes.npz").aliases == {"G40": "G3"}


def test_a_moved_run_works(overrides, tmp_path):
    vectors = train_bioemb("genes", overrides()).fine_tuned().vectors
    moved = (tmp_path / "run").rename(tmp_path / "elsewhere")
    np.testing.assert_array_equal(open_bioemb(moved).fine_tuned().vectors, vectors)


def test_a_model_file_of_python_objects_is_not_unpickled(overrides):
    trained = train_bioemb("genes", overrides())
    torch.save({"shape": print}, trained.folder / "model.pt")
    with pytest.raises(StateshiftError, match="damaged or no BioEmb model"):
        open_bioemb(trained.folder)


def test_what_to_train_on_has_to_be_named_once(overrides, tmp_path):
    with pytest.raises(StateshiftError, match=r"one of data\.table, data\.fasta and data\.molecules"):
        train_bioemb("genes", [f"output_dir={tmp_path}", "data.transductive=true"])
    with pytest.raises(StateshiftError, match="Name either a config to train from"):
        train_bioemb()
    with pytest.raises(StateshiftError, match="leave out seed=1"):
        train_bioemb(resume=tmp_path, overrides=["seed=1"])
    with pytest.raises(StateshiftError, match="is no run of `stateshift bioemb train`"):
        train_bioemb(resume=tmp_path)


def test_too_few_genes_unknown_held_out_ones_and_a_device_that_is_not_there_are_refused(overrides, write):
    with pytest.raises(StateshiftError, match="47 different vectors can't fill 64"):
        train_bioemb("genes", overrides("run", "codes.k=64"))
    with pytest.raises(StateshiftError, match=r"names no gene of the table \(did you mean `G1`"):
        train_bioemb("genes", overrides("run", f"data.held_out={write('h.txt', 'g1')}"))
    with pytest.raises(StateshiftError, match="training.accelerator=cuda"):
        train_bioemb("genes", overrides("run", "training.accelerator=cuda"))


def test_nan_in_the_table_is_refused_by_gene(write, overrides):
    lines = "".join(f"A{i},{i},nan\n" if i == 3 else f"A{i},{i},{i * i}\n" for i in range(30))
    path = write("t.csv", "gene,x,y\n" + lines)
    with pytest.raises((InputProblems, StateshiftError), match="A3"):
        train_bioemb("genes", [*overrides(), f"data.table={path}"])
