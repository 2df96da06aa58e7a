"""Models × features × seeds on one experiment."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from stateshift.cells import assign_splits, estimate_effects, load_cells, read_experiment
from stateshift.cells.pseudobulk import second_experiment
from stateshift.cli.main import app
from stateshift.effects import fit_effect_models
from stateshift.effects.models import BASELINES, EFFECT_MODELS
from stateshift.errors import StateshiftError
from stateshift.evaluation import compare, comparison_table
from stateshift.evaluation.comparison.experiment import experiment, predicting
from stateshift.evaluation.comparison.experiment.candidates import feature_tables
from stateshift.evaluation.comparison.experiment.predicting import Predictor
from stateshift.feature_table import FeatureTable
from stateshift.metrics import pearson_delta
from stateshift.prediction import predict

SMALL = [
    "model.hidden=16", "model.ffn=16", "model.heads=2", "model.layers=1", "model.set_size=8", "data.batch_size=2",
    "training.max_steps=4", "training.val_every=2", "training.lr=1e-2", "training.accelerator=cpu",
]  # fmt: skip


@pytest.fixture
def start(screen):
    """Compare the made screen, features of its own."""
    screen.toml.write_text(screen.toml.read_text() + f'[features]\ntable = "{screen.table}"\n')

    def started(*overrides, **options):
        return compare(screen.toml, overrides, output=screen.folder / "compared", **options)

    return started


def train_and_truth(screen):
    experiment = read_experiment(screen.toml)
    cells = load_cells(experiment)
    split = assign_splits(experiment, cells)
    return estimate_effects(cells, split == "train"), estimate_effects(cells, split == "test")


def row(comparison, model, regime="all"):
    rows = comparison.rows
    return rows[(rows["model"] == model) & (rows["regime"] == regime)].iloc[0]


def test_rows_hold_what_the_public_functions_give(start, screen):
    found = start(models="ridge")
    train, truth = train_and_truth(screen)
    models = fit_effect_models(train, FeatureTable.load(screen.table))
    scores = {
        name: np.nan_to_num(pearson_delta(model.predict(truth.perturbations, truth.contexts), truth.effects))
        for name, model in models.items()
    }
    means = {name: each.mean() for name, each in scores.items()}
    best = max(means, key=means.get)
    assert set(found.rows["model"]) == set(BASELINES)
    for name in BASELINES:
        ours = row(found, name)
        assert ours["pearson_delta"] == pytest.approx(means[name], abs=1e-6)
        assert ours["baseline"].split(",")[0] == best
        if name != best:
            assert ours["difference"] == pytest.approx(means[name] - means[best], abs=1e-6)
            assert ours["harm"] == pytest.approx(np.mean(scores[name] < scores[best] - 1e-9), abs=1e-9)
    ceiling = second_experiment(truth.reliability)
    closed = (means["additive"] - means["context_mean"]) / (ceiling - means["context_mean"])
    assert row(found, "additive")["gap_closed"] == pytest.approx(closed, abs=1e-6)
    assert found.rows["ceiling"].iloc[0] == pytest.approx(ceiling)


def test_regimes_have_rows_of_their_own_where_there_are_several(start, screen):
    screen.write_toml(
        '[training]\nmade = "train"\n[zeroshot]\n"made.T98G" = "test"\n'
        + "".join(f'[fewshot."made.{c}"]\ntest = ["G4"]\n' for c in ("K562", "A549"))
        + f'[features]\ntable = "{screen.table}"\n'
    )
    found = start(models="ridge")
    pairs = found.rows.drop_duplicates("regime").set_index("regime")["pairs"].to_dict()
    assert pairs == {"all": 7, "C": 4, "T": 2, "J": 1}
    scores = pd.read_csv(found.folder / "scores.csv")
    of_ridge = scores[(scores["model"] == "ridge") & (scores["regime"] == "T")]
    assert set(of_ridge["perturbation"]) == {"G4"}
    assert row(found, "ridge", "T")["pearson_delta"] == pytest.approx(of_ridge["pearson_delta"].mean())


def test_a_network_is_trained_with_each_table_and_seed_and_its_seeds_share_a_row(start, screen):
    found = start(*SMALL, models="transition:state_tiny", seeds="0,1")
    ours = row(found, "state_tiny")
    assert (ours["seeds"], ours["features"]) == (2, "features")
    runs = [found.folder / "runs" / "test" / f"state_tiny,features,seed={seed}" for seed in (0, 1)]
    by_seed = []
    for seed, run in enumerate(runs):
        adata = ad.read_h5ad(
            predict(run, cells=screen.cells, split="test", output=screen.folder / f"{seed}.h5ad", seed=seed)
        )
        frame = adata.to_df().groupby([adata.obs["context"], adata.obs["target_gene"]], observed=True).mean()
        _, truth = train_and_truth(screen)
        shifts = [frame.loc[c, p] - frame.loc[c, "non-targeting"] for p, c in zip(truth.perturbations, truth.contexts)]
        by_seed.append(pearson_delta(np.stack(shifts), truth.effects).mean())
    assert ours["pearson_delta"] == pytest.approx(np.mean(by_seed), abs=1e-4)
    assert ours["sd"] == pytest.approx(np.std(by_seed, ddof=1), abs=1e-4)
    scores = pd.read_csv(found.folder / "scores.csv")
    assert set(scores.loc[scores["model"] == "state_tiny", "route"]) == {"neural"}


def test_a_killed_comparison_goes_on_and_ends_as_one_never_killed(start, screen, monkeypatch):
    calls, whole = [], Predictor.__call__

    def dying(self, candidate, fold):
        calls.append(candidate.model)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return whole(self, candidate, fold)

    monkeypatch.setattr(Predictor, "__call__", dying)
    with pytest.raises(KeyboardInterrupt):
        start(models="ridge")
    kept = sorted((screen.folder / "compared").rglob("*.npz"))
    times = {path: path.stat().st_mtime_ns for path in kept}
    found = start(models="ridge")
    assert calls[4:] == calls[3:4] + list(BASELINES)[4:]
    assert {path: path.stat().st_mtime_ns for path in kept} == times
    never_killed = compare(screen.toml, models="ridge", output=screen.folder / "other")
    pd.testing.assert_frame_equal(found.rows, never_killed.rows)
    assert (found.folder / "comparison.png").read_bytes()[:4] == b"\x89PNG"


def test_a_run_killed_between_its_first_best_and_last_weights_is_trained_anew(start, screen):
    found = start(*SMALL, models="ridge")
    run = found.folder / "runs" / "test" / "state_tiny,features,seed=0"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "best.ckpt").write_bytes(b"of a process that was killed")
    found = start(*SMALL, models="state_tiny")
    assert "state_tiny" in set(found.rows["model"])
    assert (run / "checkpoints" / "last.ckpt").is_file()


def test_another_command_in_the_folder_adds_rows_and_keeps_the_others(start):
    start(models="ridge")
    found = start(models="forest")
    assert {"forest", *BASELINES} == set(found.rows["model"])
    again = start(models="ridge")
    pd.testing.assert_frame_equal(again.rows, found.rows)


def test_a_stopped_network_is_gone_on_with(start, screen, monkeypatch):
    found = start(*SMALL, models="state_tiny")
    name = "state_tiny,features,seed=0"
    trained = found.folder / "runs" / "test" / name / "checkpoints" / "last.ckpt"
    written = trained.stat().st_mtime_ns
    (found.folder / "predicted" / "test" / f"{name}.npz").unlink()
    (found.folder / "scores" / "test" / f"{name}.csv").unlink()
    monkeypatch.setattr(predicting, "train", None)  # nothing may be trained again
    pd.testing.assert_frame_equal(start(*SMALL, models="state_tiny").rows, found.rows)
    assert trained.stat().st_mtime_ns == written


def test_a_perturbation_without_a_vector_gets_the_mean_effect_and_is_told(start, screen):
    few = screen.folder / "few.pt"
    known = FeatureTable.load(screen.table).subset(["G1", "G2", "G3", "G4"])
    FeatureTable(["G1", "G2", "G3", "g4"], known.vectors).save(few)
    found = start(models="ridge", features=str(few))
    train, truth = train_and_truth(screen)
    scores = pd.read_csv(found.folder / "scores.csv").set_index(["model", "perturbation", "context"])
    mean = fit_effect_models(train, None, ["mean"])["mean"].predict(["G4"], ["T98G"])
    i = list(zip(truth.perturbations, truth.contexts)).index(("G4", "T98G"))
    ridge = scores.loc[("ridge", "G4", "T98G")]
    assert ridge["route"] == "fallback"
    assert ridge["pearson_delta"] == pytest.approx(pearson_delta(mean, truth.effects[[i]])[0], abs=1e-6)
    spelt = "G4; the table spells G4 as `g4`."
    assert f"few: 1 perturbations have no vector and train nothing: {spelt}" in found.notes
    assert f"few: 1 perturbations have no vector and get the mean training effect: {spelt}" in found.notes
    assert row(found, "ridge")["fallback"] == pytest.approx(2 / 6)


def test_what_fails_is_named_and_stops_nothing(start, monkeypatch):
    def failing(error):
        def fit(train, features, seed):
            raise error

        return fit

    monkeypatch.setitem(EFFECT_MODELS, "knn", failing(StateshiftError("it can't be fitted.")))
    monkeypatch.setitem(EFFECT_MODELS, "transfer", failing(MemoryError("no more\nof it")))
    found = start(models="ridge")
    assert not {"knn", "transfer"} & set(found.rows["model"])
    assert sorted(found.notes) == [
        "knn,features,seed=0 failed in test and is left out: it can't be fitted.",
        "transfer,seed=0 failed in test and is left out: MemoryError: no more",
    ]


def test_a_deleted_prediction_is_made_again_with_its_scores(start):
    first = start(models="bilinear")
    prediction = first.folder / "predicted" / "test" / "bilinear,features,seed=0.npz"
    kept = prediction.read_bytes()
    prediction.write_bytes(b"half a fi")
    with pytest.raises(StateshiftError, match="is damaged.*elete it, and compare again"):
        start(models="bilinear")
    prediction.unlink()
    pd.testing.assert_frame_equal(start(models="bilinear").rows, first.rows)
    assert prediction.read_bytes() == kept


def test_scaled_predictions_are_flagged_and_honest_ones_are_not(start, monkeypatch):
    class Loud:
        def __init__(self, model, times):
            self.model, self.times = model, times

        def predict(self, perturbations, contexts):
            return self.times * self.model.predict(perturbations, contexts)

        def routes(self, perturbations, contexts):
            return self.model.routes(perturbations, contexts)

    additive = EFFECT_MODELS["additive"]
    for name, times in (("forest", 1), ("bilinear", 8)):
        monkeypatch.setitem(EFFECT_MODELS, name, lambda *of, times=times: Loud(additive(*of), times))
    found = start(models="forest,bilinear")
    assert set(found.flags["name"]) == {"scaled up"}
    assert set(found.flags["model"]) == {"bilinear,features,seed=0"}
    assert found.flags["figure"].between(2, 12).all()
    assert (found.folder / "flags.csv").is_file()


def test_folds_hold_out_what_they_say_and_never_look_at_the_test_split(start, screen):
    found = start(models="ridge", folds="T", n_folds=2)
    scores = pd.read_csv(found.folder / "scores.csv")
    held = scores[scores["model"] == "ridge"]
    pairs = set(zip(held["perturbation"], held["context"]))
    singles = {(p, "A549") for p in ("G1", "G2", "G3", "G4")} | {(p, "K562") for p in ("G1", "G2")}
    assert pairs >= singles
    assert not any(c == "T98G" or (p, c) in {("G3", "K562"), ("G4", "K562")} for p, c in pairs)
    for fold in json.loads((found.folder / "folds" / "folds.json").read_text()):
        experiment = read_experiment(found.folder / "folds" / fold / "experiment.toml")
        cells = load_cells(experiment)
        split = assign_splits(experiment, cells)
        trained = set(cells.obs["perturbation"][split == "train"])
        scored = set(held.loc[held["fold"] == fold, "perturbation"])
        assert not {g for p in trained for g in p.split("+")} & {
            g for p in scored for g in p.split("+") if "+" not in p
        }


def test_folds_by_context_and_by_both_give_those_regimes(start, screen):
    by_context = start(models="ridge", folds="C", n_folds=2)
    assert set(pd.read_csv(by_context.folder / "scores.csv")["regime"]) <= {"C", "J"}
    by_both = compare(screen.toml, models="ridge", folds="J", n_folds=2, output=screen.folder / "both")
    assert set(pd.read_csv(by_both.folder / "scores.csv")["regime"]) == {"J"}


def test_a_network_trains_on_the_folds_too(start):
    found = start(*SMALL, models="state_tiny", folds="C", n_folds=2)
    scores = pd.read_csv(found.folder / "scores.csv")
    assert set(scores.loc[scores["model"] == "state_tiny", "fold"]) == {"C0", "C1"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"models": "ridg"}, r"`ridg` is no model \(did you mean `ridge`\?\)"),
        ({"models": "transition:state_smal"}, r"`transition:state_smal` is no model \(did you mean `state_sm`\?\)"),
        ({"models": "ridge", "seeds": "a"}, "--seeds a: whole numbers"),
        ({"models": "ridge", "features": "onehott"}, r"no feature source `onehott` \(did you mean `onehot`\?\)"),
        ({"models": "ridge", "features": "gone.pt"}, "features=gone.pt: there is no such feature table"),
        ({"models": "ridge", "folds": "X"}, "--folds X is no regime"),
        ({"models": "ridge", "folds": "T", "n_folds": 1}, "--n-folds 1: two or more"),
    ],
)
def test_wrong_words_are_told(start, options, told):
    with pytest.raises(StateshiftError, match=told):
        start(**options)


def test_models_that_need_features_are_refused_without_any(screen):
    with pytest.raises(StateshiftError, match="`state_tiny` needs perturbation features: name a source or a table"):
        compare(screen.toml, models="state_tiny", output=screen.folder / "compared")


def test_other_data_another_table_or_other_code_in_the_same_folder_is_refused(start, screen, monkeypatch):
    monkeypatch.setattr(experiment, "code_of", {"ridge": "mine 1.0"}.get)
    start(models="ridge")
    monkeypatch.setattr(experiment, "code_of", {"ridge": "mine 1.1"}.get)
    with pytest.raises(StateshiftError, match=r"of another `ridge` \(mine 1\.0 there, mine 1\.1 now\)"):
        start(models="ridge")
    monkeypatch.undo()
    with pytest.raises(StateshiftError, match=r'holds another comparison \(folds null there, "T" now'):
        start(models="ridge", folds="T")
    table = FeatureTable.load(screen.table)
    FeatureTable(table.genes, table.vectors * 2, table.provenance).save(screen.table, overwrite=True)
    with pytest.raises(StateshiftError, match="a comparison with another table `features`"):
        start(models="ridge")
    screen.cells.touch()
    with pytest.raises(StateshiftError, match=r"holds another comparison \(files "):
        start(models="ridge")


def test_a_table_that_was_made_of_a_file_written_anew_is_refused(screen):
    genes = screen.folder / "sets.gmt"
    screen.toml.write_text(f'{screen.toml.read_text()}[features]\nsource = "gene_sets"\nlookup = "{genes}"\n')
    for members in ("G1\tG2\tG3\tG4", "G1\tG2\tG3"):
        genes.write_text(f"A\td\t{members}\nB\td\tG1\tG2\nC\td\tG3\tG4\n")
        feature_tables(read_experiment(screen.toml), None, screen.folder / members[-2:])
    with pytest.raises(
        StateshiftError, match="was made of another sets.gmt, which was written anew since: choose another"
    ):
        feature_tables(read_experiment(screen.toml), None, screen.folder / "G4")


def test_a_sweep_takes_none_of_these_options(tmp_path):
    with pytest.raises(StateshiftError, match="is no experiment TOML, and --models, --folds go with one"):
        compare(tmp_path, models="ridge", folds="T")


def test_the_command_prints_the_table(start, screen):
    compared = start(models="ridge")
    arguments = ["compare", str(screen.toml), "--models", "ridge", "-o", str(compared.folder)]
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "120"})
    assert done.exit_code == 0, done.output
    assert "a second experiment" in done.output
    assert f"lie in {compared.folder}" in done.output.replace("\n", "")
    assert comparison_table(compared).row_count == len(compared.rows) + 2
