import pickle
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from stateshift.errors import InputProblems, StateshiftError
from stateshift.feature_table import FeatureTable
from stateshift.run import open_run
from stateshift.transition.arc.run import import_arc_run, is_arc_run, read_arc_run
from stateshift.transition.checkpoint import load_transition

STORED = Path(__file__).parents[2] / "assets" / "transition" / "arc_run"


@pytest.fixture
def arc(tmp_path) -> Path:
    """A copy of a run that arc-state trained, to be spoilt."""
    return Path(shutil.copytree(STORED, tmp_path / "arc"))


@pytest.fixture
def change(arc):
    """Change the checkpoint's weights or hyper-parameters."""

    def changed(weights=None, remove=(), name="final", **options) -> Path:
        stored = torch.load(arc / "checkpoints" / "final.ckpt", weights_only=True)
        stored["state_dict"] = {n: w for n, w in stored["state_dict"].items() if n not in remove} | (weights or {})
        step = options.pop("global_step", stored["global_step"])
        stored["global_step"] = step
        stored["hyper_parameters"] |= options
        torch.save(stored, arc / "checkpoints" / f"{name}.ckpt")
        return arc

    return changed


def test_an_imported_run_is_a_run_of_ours(arc, tmp_path):
    run = open_run(import_arc_run(arc, tmp_path / "ours"))
    assert run.genes() == [f"GENE{i}" for i in range(12)]
    assert run.batches() == ["b0", "b1"]
    assert run.config()["imported_from"] == "arc-state"
    table = FeatureTable.load(run.features_file)
    assert table.genes == ["G1", "G2", "G3"]
    model = load_transition(run, table.width)
    assert model.config == read_arc_run(arc).model.config
    shape = (model.config.hidden, model.config.layers, model.config.heads, model.config.ffn, model.config.set_size)
    assert shape == (8, 1, 2, 16, 8)
    assert (model.config.start, model.config.batches, model.config.gene_decoder) == ("none", 2, 0)
    names = set(model.state_dict())
    assert not any("embed_tokens" in name or "gene_decoder" in name for name in names)


def test_an_imported_run_has_the_same_checksums_each_time(arc, tmp_path, monkeypatch):
    sums = []
    for process in (11, 12):
        monkeypatch.setattr("os.getpid", lambda process=process: process)
        sums.append(open_run(import_arc_run(arc, tmp_path / str(process))).checksums())
    assert sums[0] == sums[1]
    assert set(sums[0]) == {"config.yaml", "features.pt", "best.ckpt"}


def test_an_imported_run_is_moved_and_holds_no_path(arc, tmp_path):
    run = import_arc_run(arc, tmp_path / "ours")
    moved = Path(shutil.move(run, tmp_path / "elsewhere"))
    shutil.rmtree(arc)
    assert load_transition(open_run(moved), 4).config.genes == 12
    texts = [path.read_text() for path in moved.iterdir() if path.suffix in (".yaml", ".toml", ".txt", ".json")]
    assert not any(str(tmp_path) in text for text in texts)


def test_a_run_is_told_from_ours_and_a_checkpoint_alone_names_its_run(arc, tmp_path, monkeypatch):
    ours = import_arc_run(arc, tmp_path / "ours")
    checkpoint = arc / "checkpoints" / "final.ckpt"
    assert [is_arc_run(path) for path in (arc, checkpoint, ours, ours / "checkpoints" / "best.ckpt", tmp_path)] == [
        True, True, False, False, False,
    ]  # fmt: skip
    assert read_arc_run(checkpoint).folder == arc
    monkeypatch.chdir(checkpoint.parent)
    assert is_arc_run("final.ckpt")
    assert read_arc_run("final.ckpt").folder == arc


def test_a_stale_final_checkpoint_gives_way_to_the_last(change):
    arc = change(name="last", global_step=100)
    assert read_arc_run(arc).checkpoint.name == "last.ckpt"
    assert read_arc_run(change(name="last", global_step=2)).checkpoint.name == "final.ckpt"


def test_hyper_parameters_that_a_checkpoint_lacks_come_from_the_config_beside_it(arc):
    path = arc / "checkpoints" / "final.ckpt"
    stored = torch.load(path, weights_only=True)
    names = stored.pop("hyper_parameters")["gene_names"]
    torch.save(stored, path)
    assert read_arc_run(arc).model.config.heads == 2
    (arc / "config.yaml").unlink()
    with pytest.raises(InputProblems, match="its hyper-parameters don't say num_attention_heads: put its config.yaml"):
        read_arc_run(arc)
    assert len(names) == 12


def test_zeros_in_place_of_a_vector_are_left_out_by_name(arc, tmp_path, caplog):
    vectors = {n: torch.eye(4)[i] for i, n in enumerate(["G1", "G2", "non-targeting"])} | {"LOST": torch.zeros(4)}
    torch.save(vectors, arc / "pert_onehot_map.pt")
    run = open_run(import_arc_run(arc, tmp_path / "ours"))
    assert FeatureTable.load(run.features_file).genes == ["G1", "G2"]
    assert "zeros in place of a vector, left out: LOST" in caplog.text


def test_doubles_are_kept_where_they_are_sums_and_named_where_not(arc, tmp_path, caplog):
    vectors = {"G1": torch.eye(4)[0], "G2": torch.eye(4)[1], "G1+G2": torch.tensor([1.0, 1, 0, 0])}
    torch.save(vectors, arc / "pert_onehot_map.pt")
    import_arc_run(arc, tmp_path / "sums")
    assert "aren't the sum" not in caplog.text
    torch.save(vectors | {"G1+G2": torch.eye(4)[2]}, arc / "pert_onehot_map.pt")
    import_arc_run(arc, tmp_path / "own")
    assert "vectors that aren't the sum of their genes', left out: G1+G2" in caplog.text


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"transformer_backbone_key": "GPT2"}, "backbone `GPT2`: only llama is read"),
        ({"activation": "relu"}, "activation `relu` in the encoders"),
        ({"finetune_vci_decoder": True}, "a fine-tuned SE gene decoder"),
        ({"nb_decoder": True}, "a negative binomial gene decoder"),
    ],
)
def test_what_cannot_be_honoured_is_named(change, options, named):
    with pytest.raises(InputProblems, match=named):
        read_arc_run(change(**options))


def test_everything_that_cannot_be_honoured_is_named_at_once(change):
    arc = change({"transformer_backbone.lora_A": torch.zeros(2, 2)}, activation="elu", nb_decoder=True)
    with pytest.raises(InputProblems, match="3 problems") as refused:
        read_arc_run(arc)
    assert "LoRA adapters: merge them into the backbone first" in str(refused.value)


def test_another_model_of_arc_state_is_refused_by_name(arc):
    config = yaml.safe_load((arc / "config.yaml").read_text())
    config["model"]["name"] = "scgpt-genetic"
    (arc / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(
        StateshiftError, match="is a run of arc-state's `scgpt-genetic`: its state-transition model alone"
    ):
        read_arc_run(arc)


def test_a_checkpoint_of_another_kind_is_refused(arc):
    torch.save({"state_dict": {"encoder.weight": torch.zeros(2)}}, arc / "checkpoints" / "final.ckpt")
    with pytest.raises(StateshiftError, match="is no checkpoint of arc-state's state-transition model: encoder.weight"):
        read_arc_run(arc)
    torch.save([1, 2], arc / "checkpoints" / "final.ckpt")
    with pytest.raises(StateshiftError, match="holds no state_dict"):
        read_arc_run(arc)


def test_weights_of_an_unknown_part_or_absent_ones_are_refused_by_name(change):
    with pytest.raises(StateshiftError, match="holds weights of a part that our model does not have: novelty.weight"):
        read_arc_run(change({"novelty.weight": torch.zeros(2)}))
    arc = change(remove=["novelty.weight", "transformer_backbone.layers.0.mlp.up_proj.weight"])
    with pytest.raises(StateshiftError, match=r"lacks weights that its options ask for: .*up_proj"):
        read_arc_run(arc)


@pytest.mark.parametrize(
    "options",
    [
        {"transformer_backbone_kwargs": [1]},
        {"activation": 3},
        {"transformer_backbone_kwargs": None},
    ],
)
def test_hyper_parameters_of_another_kind_are_a_sentence_with_the_checkpoint(change, options):
    with pytest.raises(StateshiftError, match=r"final\.ckpt"):
        read_arc_run(change(**options))


def test_weights_that_are_no_numbers_are_refused(change):
    with pytest.raises(StateshiftError, match=r"final\.ckpt holds NaN or infinity in pert_encoder\.0\.bias"):
        read_arc_run(change({"pert_encoder.0.bias": torch.full((8,), torch.nan)}))


def test_a_checkpoint_of_another_gene_list_is_refused_and_leaves_nothing(change, tmp_path):
    with pytest.raises(StateshiftError, match="names 3 genes and final.ckpt predicts 12"):
        import_arc_run(change(gene_names=["A", "B", "C"]), tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_a_checkpoint_of_another_feature_width_is_refused(arc, tmp_path):
    torch.save({"G1": torch.ones(7)}, arc / "pert_onehot_map.pt")
    with pytest.raises(
        StateshiftError, match="has 7 features for G1 and final.ckpt takes 4: they are of different runs"
    ):
        import_arc_run(arc, tmp_path / "ours")


def test_batches_of_another_run_are_refused(arc, tmp_path):
    torch.save({"b0": torch.ones(1)}, arc / "batch_onehot_map.torch")
    with pytest.raises(StateshiftError, match="names 1 batches and final.ckpt tells 2 apart"):
        import_arc_run(arc, tmp_path / "ours")


def test_gene_names_come_from_var_dims_where_the_checkpoint_has_none(change, tmp_path):
    arc = change(gene_names=None)
    names = [f"OTHER{i}" for i in range(12)]
    (arc / "var_dims.pkl").write_bytes(pickle.dumps({"gene_names": names}))
    assert open_run(import_arc_run(arc, tmp_path / "ours")).genes() == names
    (arc / "var_dims.pkl").unlink()
    with pytest.raises(StateshiftError, match="names no genes, and no var_dims.pkl lies in"):
        import_arc_run(arc, tmp_path / "again")


def test_a_run_that_exists_is_not_overwritten(arc, tmp_path):
    import_arc_run(arc, tmp_path / "ours")
    with pytest.raises(StateshiftError, match="exists with another run"):
        import_arc_run(arc, tmp_path / "ours")
