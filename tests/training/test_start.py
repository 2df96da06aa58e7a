"""Fine-tuning from a run or a checkpoint: what is kept, what contradicts, what resumes, what adapters leave."""

import importlib.util
import json
import os
import shutil
import signal
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import torch

from stateshift.cells import EffectTable
from stateshift.errors import InputProblems, StateshiftError
from stateshift.feature_table import FeatureTable
from stateshift.prediction import predict
from stateshift.run import open_run
from stateshift.training import resume, train
from stateshift.training.data import TrainingData
from stateshift.training.loop.watch import LossWatch
from stateshift.training.start import fit_linear_start, read_transfer
from stateshift.transition import TransitionConfig, TransitionModel

ARC = Path(__file__).parents[1] / "assets" / "transition" / "arc_run"
SHAPE = ["model.hidden=16", "model.ffn=16", "model.heads=2", "model.layers=1", "model.set_size=8"]
STEPS = ["training.max_steps=8", "training.val_every=4", "training.lr=1e-2"]
with_peft = pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="the extra `lora` is not installed")


@pytest.fixture
def old(screen, request):
    words = [
        *SHAPE,
        "training.max_steps=20",
        "training.val_every=20",
        "training.lr=1e-2",
        "training.select_by=val_loss",
    ]
    words += getattr(request, "param", [])
    return train(screen.toml, words, pert_features=screen.table, output_dir=screen.folder / "runs", name="old")


@pytest.fixture
def tuned(screen, old):
    def tuned(name, *words, source=old, **more):
        options = {"pert_features": screen.table, "output_dir": screen.folder / "runs", **more}
        return train(screen.toml, [*STEPS, *words], init_from=source, name=name, **options)

    return tuned


def weights(run, name="last"):
    stored = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]
    return {name.removeprefix("model."): value for name, value in stored.items()}


def states(run):
    return {part.name: part.state for part in read_transfer(open_run(run)).parts}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("old", [["model.start=none"]], indirect=True)
def test_a_run_starts_with_the_weights_of_its_source_and_takes_its_dims(old, tuned):
    run = tuned("new")
    config = open_run(run).config()
    assert (config["model"]["hidden"], config["model"]["name"]) == (16, "state_tiny_finetuned")
    assert config["init_from"] == "../old"
    record = read_transfer(open_run(run))
    assert set(record.kept()) == {"pert_encoder", "basal_encoder", "transformer_backbone", "project_out"}
    assert record.source == "best.ckpt"
    # the untrained model of the new run validates as the best of the old one
    rows = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    best = torch.load(old / "checkpoints" / "best.ckpt", weights_only=True)["global_step"]
    theirs = [line.split(",") for line in (old / "metrics.csv").read_text().splitlines()]
    at = [float(row[theirs[0].index("val_loss")]) for row in theirs[1:] if row[0] == str(best)]
    assert float(rows[1][rows[0].index("val_loss")]) == pytest.approx(at[0], rel=1e-6)
    assert best > 0


def test_a_second_screen_of_other_genes_features_and_batches(screen, old, cell_maker, tmp_path):
    cells = tmp_path / "second.h5ad"
    cell_maker(cells, contexts=("A549", "HAP1"), n_genes=24, n_batches=3, seed=5)
    adata = ad.read_h5ad(cells)
    adata[:, ::-1].copy().write_h5ad(cells)
    wide = FeatureTable(["G1", "G2", "G3", "G4"], np.random.default_rng(4).standard_normal((4, 9)), {"source": "made"})
    wide.save(tmp_path / "wide.pt")
    screen.toml.write_text(f'[datasets]\nmade = "{cells}"\n[training]\nmade = "train"\n')
    run = train(
        screen.toml, [*STEPS, "model.batch_encoder=true"], init_from=old, pert_features=tmp_path / "wide.pt",
        output_dir=tmp_path, name="second",
    )  # fmt: skip
    assert states(run) == {
        "pert_encoder": "re-made", "basal_encoder": "partly", "transformer_backbone": "kept", "project_out": "partly",
        "batch_encoder": "re-made",
    }  # fmt: skip
    predicted = ad.read_h5ad(predict(run, cells=cells, perturb="G1", output=tmp_path / "p.h5ad"))
    assert list(predicted.var_names) == [f"GENE{i}" for i in range(24)][::-1]
    assert np.isfinite(predicted.X.data).all()


@pytest.mark.parametrize("inside", ["", "checkpoints/final.ckpt"])
def test_a_run_of_arc_state_is_fine_tuned_with_its_own_options(screen, inside, tmp_path):
    run = train(
        screen.toml, [*STEPS], init_from=ARC / inside, pert_features=screen.table, output_dir=tmp_path, name="new"
    )
    config = open_run(run).config()["model"]
    assert (config["name"], config["hidden"], config["start"]) == ("arc_state_finetuned", 8, "none")
    parts = {part.name: (part.state, part.how) for part in read_transfer(open_run(run)).parts}
    assert parts["basal_encoder"] == ("partly", "12 of 20 genes")
    assert parts["pert_encoder"] == ("re-made", "6 features in place of 4")
    assert parts["batch_encoder"] == ("kept", "2 of 2 batches")
    assert predict(run, cells=screen.cells, perturb="G1", output=tmp_path / "p.h5ad").is_file()
    again = train(screen.toml, STEPS, init_from=run, pert_features=screen.table, output_dir=tmp_path, name="again")
    assert open_run(again).config()["model"]["name"] == "arc_state_finetuned"


def test_the_linear_start_is_the_sources_as_far_as_it_fits_and_what_that_misses(screen, old, tuned, tmp_path):
    theirs, ours = weights(old), weights(tuned("new"))
    rank = theirs["effect_down"].shape[1]
    assert torch.equal(ours["effect_down"][:, :rank], theirs["effect_down"])
    weight = ours["effect_up"][0, 0] / theirs["effect_up"][0, 0]
    assert 0.9 < weight < 2
    torch.testing.assert_close(ours["effect_up"][:rank], weight * theirs["effect_up"])
    said = f"The frozen linear start is {weight:.2f} × the source's, and what that misses of the training effects."
    assert read_transfer(open_run(old.parent / "new")).notes == (said,)
    other = tmp_path / "other.pt"
    vectors = np.random.default_rng(9).standard_normal((4, 6))
    FeatureTable(["G1", "G2", "G3", "G4"], vectors, {"source": "made"}).save(other)
    plain = train(screen.toml, [*SHAPE, *STEPS], pert_features=other, output_dir=screen.folder / "runs", name="plain")
    run = tuned("other", pert_features=other)
    assert torch.equal(weights(run)["effect_up"], weights(plain)["effect_up"])
    assert read_transfer(open_run(run)).notes == ("The source's linear start is left out: it is of other features.",)


def test_genes_whose_vector_was_filled_in_start_as_the_encoder_of_sources_knows_them():
    rng, names = np.random.default_rng(0), [f"G{i}" for i in range(24)]
    vectors = 5 + rng.standard_normal((24, 8))
    vectors[:4] = vectors[4:].mean(axis=0)
    effects = (0.1 + (vectors - 5) @ rng.standard_normal((8, 20)) / 10).astype(np.float32)
    filled = FeatureTable(names, vectors, {"source": "made", "missing_policy": dict.fromkeys(names[:4], "mean")})
    measured = EffectTable([f"R{i}" for i in range(20)], names, ["c"] * 24, effects, None, {"c": np.ones(20)})
    shape = {"hidden": 8, "layers": 1, "heads": 2, "ffn": 8, "set_size": 4, "encoder_layers": 1, "decoder_layers": 1}
    model = TransitionModel(TransitionConfig(genes=20, features=8, encoder="sources", **shape))
    fit_linear_start(model, TrainingData(None, None, filled, measured), seed=0)
    unknown = (torch.zeros(8) @ model.effect_down @ model.effect_up + model.effect_intercept).numpy()
    assert np.abs(unknown - effects[:4]).max() < 0.1 * np.abs(effects).max()


def test_dims_that_contradict_the_source_are_named_with_both(old, tuned):
    with pytest.raises(InputProblems) as told:
        tuned("new", "model.hidden=32", "model.layers=2", "model.set_size=4")
    assert len(told.value.problems) == 2
    assert f"model.hidden=32 contradicts the 16 of {old}" in str(told.value)
    with pytest.raises(InputProblems, match=r"model.hidden=672 contradicts the 16 of .*: leave model=… out"):
        tuned("new", "model=state_sm")
    assert not (old.parent / "new").exists()


def test_the_model_of_a_run_table_yields_to_the_source(screen, old, tmp_path):
    toml = screen.toml.with_name("named.toml")
    toml.write_text(screen.toml.read_text() + '\n[run]\nmodel = "state_sm"\n')
    run = train(toml, STEPS, pert_features=screen.table, init_from=old, output_dir=tmp_path, name="n")
    assert open_run(run).config()["model"]["hidden"] == 16


def test_an_option_that_is_named_wins_over_the_source(tuned):
    config = open_run(tuned("new", "model.set_size=4", "model.confidence_token=true")).config()["model"]
    assert (config["set_size"], config["confidence_token"], config["hidden"]) == (4, True, 16)


def test_no_gene_in_common_leaves_no_run(screen, old, tuned):
    adata = ad.read_h5ad(screen.cells)
    adata.var_names = [f"ENSG{i}" for i in range(20)]
    adata.write_h5ad(screen.cells)
    with pytest.raises(StateshiftError, match="share no gene"):
        tuned("new")
    assert not (old.parent / "new").exists()


def killed(start, at):
    """Train in a child process that kills itself at a batch, or as a file takes its name."""
    child = os.fork()
    if child == 0:
        try:
            saw, replace, seen = LossWatch.saw, os.replace, []

            def dying(self, *args):
                seen.append(args)
                if len(seen) == at:
                    os.kill(os.getpid(), signal.SIGKILL)
                saw(self, *args)

            def replacing(source, target):
                if os.path.basename(target) == at:
                    os.kill(os.getpid(), signal.SIGKILL)
                replace(source, target)

            LossWatch.saw, os.replace = dying, replacing
            start()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


LORA = ["training.lora.rank=2", "training.lora.dropout=0.2", "model.dropout=0.2", "training.ema=0.9"]


@pytest.mark.parametrize("words", [[], pytest.param(LORA, marks=with_peft)], ids=["whole", "lora"])
def test_a_killed_fine_tuning_resumes_to_the_same_weights_without_its_source(old, tuned, words):
    plain = tuned("plain", *words)
    killed(lambda: tuned("killed", *words), 6)
    run = old.parent / "killed"
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 4
    shutil.rmtree(old)
    resume(run)
    for name in ("last", "best"):
        assert same(weights(run, name), weights(plain, name))
    assert (run / "metrics.csv").read_text() == (plain / "metrics.csv").read_text()


def test_one_killed_before_its_first_checkpoint_starts_from_its_source_again(old, tuned):
    plain = tuned("plain")
    killed(lambda: tuned("killed"), "last.ckpt")
    run = old.parent / "killed"
    shutil.move(old, old.with_name("moved"))
    with pytest.raises(StateshiftError, match="there is no such run or checkpoint"):
        resume(run)
    shutil.move(old.with_name("moved"), old)
    resume(run)
    assert same(weights(run), weights(plain))


def test_frozen_parts_keep_their_weights_to_the_bit(old, tuned):
    run = tuned("new", "training.freeze=[transformer_backbone,project_out]")
    theirs, ours = weights(old, "best"), weights(run)
    for name, value in theirs.items():
        if not name.startswith("effect_"):
            assert torch.equal(ours[name], value) == name.startswith(("transformer_backbone.", "project_out."))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["training.freeze=[backbone]"],
            r"no part `backbone` \(there are: basal_encoder, pert_encoder, project_out, transformer_backbone\)",
        ),
        (["training.freeze=[pert_encoder,basal_encoder,transformer_backbone,project_out]"], "leaves nothing to train"),
        (
            ["training.freeze=[confidence_token]", "model.confidence_token=true"],
            "confidence_token was made anew and has to be trained",
        ),
        (["training.freeze=backbone"], r"has to be a list, as \[transformer_backbone\]"),
        (["training.lora.rank=-1"], "training.lora.rank=-1 has to be a whole number of at least 0"),
        (["training.lora.targets=[qproj]"], "training.lora.targets: qproj is no layer"),
        (["training.lora=8"], "has to be a group, as training.lora.rank=8"),
        (["training.lora.rnk=8"], r"training.lora.rnk is read by nothing \(did you mean `training.lora.rank`\?\)"),
    ],
)
def test_what_can_not_be_held_still_is_told(old, tuned, words, told):
    with pytest.raises(StateshiftError, match=told):
        tuned("new", *words)
    assert not (old.parent / "new").exists()


@pytest.mark.parametrize("word", ["training.lora.rank=2", "training.freeze=[transformer_backbone]"])
def test_untrained_weights_are_not_held_still(screen, word):
    with pytest.raises(StateshiftError, match="--init-from"):
        train(screen.toml, [*SHAPE, word], pert_features=screen.table, output_dir=screen.folder, name="r")


@with_peft
def test_adapters_train_beside_a_frozen_base_and_the_best_holds_them_merged(screen, old, tuned, tmp_path):
    run = tuned(
        "new", "training.lora.rank=2", "training.select_by=val_loss", "training.max_steps=12", "training.val_every=12"
    )
    theirs, last, best = weights(old, "best"), weights(run), weights(run, "best")
    assert best.keys() == theirs.keys()
    assert torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["global_step"] == 12
    for name in ("pert_encoder.0.weight", "basal_encoder.0.weight", "transformer_backbone.norm.weight"):
        assert torch.equal(last[name], theirs[name])
    assert not torch.equal(last["project_out.0.weight"], theirs["project_out.0.weight"])
    name = "transformer_backbone.layers.0.self_attn.q_proj"
    assert torch.equal(last[f"{name}.base_layer.weight"], theirs[f"{name}.weight"])
    product = 8 * last[f"{name}.lora_B.default.weight"] @ last[f"{name}.lora_A.default.weight"]
    torch.testing.assert_close(best[f"{name}.weight"], theirs[f"{name}.weight"] + product)
    assert product.abs().max() > 1e-3
    find = importlib.util.find_spec
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "peft" else find(name, *a))
        patch.setitem(__import__("sys").modules, "peft", None)
        assert predict(run, cells=screen.cells, perturb="G1", output=tmp_path / "p.h5ad").is_file()


def test_a_damaged_record_is_named(tuned):
    run = tuned("new")
    for content in ("{", json.dumps({"source": "x"})):
        (run / "init_from.json").write_text(content)
        with pytest.raises(StateshiftError, match=r"init_from.json is missing or damaged"):
            resume(run, ["training.max_steps=20"])
