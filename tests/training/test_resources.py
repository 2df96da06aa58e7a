import anndata as ad
import numpy as np
import pytest

from stateshift.cells.sets import CellSets
from stateshift.errors import StateshiftError
from stateshift.training import check_experiment, compose_config, experiment_config
from stateshift.training.resources import run_needs
from stateshift.transition import TransitionModel
from stateshift.transition.checkpoint import config_from

SMALL = ["model.hidden=16", "model.ffn=16", "model.heads=2", "model.layers=1", "model.set_size=8"]


@pytest.fixture
def found(screen):
    screen.toml.write_text(screen.toml.read_text() + f'[features]\ntable = "{screen.table}"\n')
    return check_experiment(screen.toml)


def test_memory_is_that_of_the_matrix_the_table_and_the_model(found):
    config = compose_config(SMALL)
    needs = run_needs(found, config)
    model = TransitionModel(config_from(config["model"], 20, 6, "log1p"))
    assert needs.n_parameters == sum(p.numel() for p in model.parameters())
    assert needs.model_bytes == 16 * needs.n_parameters
    assert needs.feature_bytes == 4 * 6 * 4
    assert needs.matrix_bytes == found.loaded_bytes
    assert needs.in_memory
    assert not run_needs(found, compose_config([*SMALL, "data.memory_gb=0"])).in_memory


def test_layers_of_ESM2_that_are_trained_count_as_they_are(found):
    from stateshift.proteins.esm2.last_layers import LastLayers

    plain, unfrozen = (
        run_needs(found, compose_config(["model=esm_state", *SMALL, f"model.unfreeze_esm_layers={n}"])) for n in (0, 2)
    )
    assert plain.step_seconds is not None
    own = sum(p.numel() for p in LastLayers(2, 6, 1).parameters())
    assert 0.8 * own < unfrozen.n_parameters - plain.n_parameters < own
    assert unfrozen.step_bytes - plain.step_bytes == 8 * 500 * (2 * 16 + 1) * 6 * 4
    assert unfrozen.step_seconds is None


def test_a_step_keeps_more_the_more_cells_a_batch_holds(found):
    few, many = (run_needs(found, compose_config([*SMALL, f"data.batch_size={b}"])).step_bytes for b in (4, 8))
    assert few > 2 * 4 * 8 * 20 * 4
    assert 1.5 * few < many < 2 * few


@pytest.mark.parametrize("by_batch", ["false", "true"])
def test_sets_are_counted_as_they_are_cut(screen, found, by_batch):
    from stateshift.cells import read_all
    from stateshift.feature_table import FeatureTable

    config = compose_config([*SMALL, "data.batch_size=3", f"data.by_batch={by_batch}", "training.max_steps=70"])
    needs = run_needs(found, config)
    _, cells, split = read_all(screen.toml)
    sets = CellSets(
        cells, split == "train", FeatureTable.load(screen.table), set_size=8, batch_size=3, seed=0,
        by_batch=by_batch == "true",
    )  # fmt: skip
    assert needs.n_sets == {"false": 8 * 3, "true": 8 * 2 * 2}[by_batch]
    assert needs.batches_an_epoch == sets.batches_an_epoch
    assert needs.max_steps == 70


def test_a_tenth_is_kept_back_where_no_validation_is_declared(screen):
    screen.write_toml(f'[training]\nmade = "train"\n[features]\ntable = "{screen.table}"\n')
    needs = run_needs(check_experiment(screen.toml), compose_config([*SMALL, "model.set_size=11"]))
    assert needs.n_sets == 15 * 2


def test_a_step_is_measured_where_it_is_small_and_not_where_it_is_large(found):
    assert run_needs(found, compose_config(["training.accelerator=cpu"])).step_seconds > 0
    large = run_needs(found, compose_config(["model=state_lg", "training.accelerator=cpu"]))
    assert large.step_seconds is None
    assert large.n_parameters > 200_000_000


def test_without_a_table_the_model_is_not_known_and_the_sets_are(screen):
    found = check_experiment(screen.toml)
    needs = run_needs(found, experiment_config(found.experiment))
    assert (needs.n_parameters, needs.feature_bytes, needs.step_seconds) == (None, None, None)
    assert needs.n_sets == 8
    screen.toml.write_text(screen.toml.read_text() + '[features]\nsource = "onehot"\n')
    found = check_experiment(screen.toml)
    assert run_needs(found, experiment_config(found.experiment)).feature_bytes == 4 * 4 * 4


def test_features_of_ESM2_are_as_wide_as_the_checkpoint_s_name_tells_and_cost_its_products(screen):
    plain = screen.toml.read_text()
    (screen.folder / "g.fasta").write_text("".join(f">sp|P{i}|X GN=G{i}\n{'MKVL' * 25}\n" for i in range(1, 5)))

    def asked(features):
        screen.toml.write_text(f'{plain}[features]\nsource = "esm2"\n{features}')
        found = check_experiment(screen.toml)
        return found, run_needs(found, compose_config(SMALL))

    found, needs = asked('fasta = "g.fasta"\ncheckpoint = "esm2_t33_650M_UR50D"\n')
    of_table = TransitionModel(config_from(compose_config(SMALL)["model"], found.n_genes, 1280, found.scale))
    assert needs.n_parameters == sum(p.numel() for p in of_table.parameters())
    made = needs.embedding
    assert (made.genes, made.residues, made.model_bytes) == (4, 400, 4 * 12 * 33 * 1280**2)
    assert 1e9 < 2 * 400 * 12 * 33 * 1280**2 / made.seconds < 1e16
    assert needs.step_seconds > 0
    assert asked('fasta = "g.fasta"\n')[1].embedding.model == "stateshift-demo-esm2"
    with pytest.raises(StateshiftError, match="did you mean `esm2_t33_650M_UR50D`"):
        asked('fasta = "g.fasta"\ncheckpoint = "esm2_650M"\n')


@pytest.mark.parametrize("option", ["batch_encoder", "batch_token", "confidence_token", "mask_attn"])
def test_needs_are_told_of_every_option_of_the_model(found, option):
    plain, more = (run_needs(found, compose_config([*SMALL, *options])) for options in ([], [f"model.{option}=true"]))
    difference = more.n_parameters - plain.n_parameters
    H, batches = 16, 2
    head = (H + 1) * 8 + 2 * 8 + (8 + 1) * 4 + 2 * 4 + 4 + 1
    assert difference == {
        "batch_encoder": batches * H, "batch_token": H + (H + 1) * batches, "confidence_token": H + head,
        "mask_attn": -2 * H * H,
    }[option]  # fmt: skip


def test_every_gene_beside_an_array_is_counted_in_memory_and_where_the_network_predicts_it_in_a_step(screen):
    adata = ad.read_h5ad(screen.cells)
    adata.obsm["X_pca"] = np.random.default_rng(0).normal(size=(len(adata), 4)).astype(np.float32)
    adata.write_h5ad(screen.cells)
    text = f'[columns]\nembedding = "X_pca"\n[features]\ntable = "{screen.table}"\n'
    screen.toml.write_text(screen.toml.read_text() + text)
    found = check_experiment(screen.toml)
    alone, projected, decoded = (
        run_needs(found, compose_config([*SMALL, *options]))
        for options in (
            ["model.output_space=embedding"],
            [],
            ["model.output_space=gene", "model.gene_decoder=true", "model.gene_decoder_widths=[8]"],
        )
    )
    assert alone.matrix_bytes == found.loaded_bytes + found.every_gene_bytes > 432 * (4 + 20) * 4
    assert projected.n_parameters - alone.n_parameters == (20 - 4) * (16 + 1)
    assert decoded.n_parameters - alone.n_parameters == (4 + 1) * 8 + 2 * 8 + (8 + 1) * 20
    assert min(projected.step_bytes, decoded.step_bytes) > alone.step_bytes + 2 * 8 * 8 * 20 * 4


@pytest.mark.parametrize(("val", "groups"), [(True, 2 * 18), (False, 2 * (28 - 5))])
def test_pairs_that_a_network_beside_a_backbone_holds_back_are_not_counted(two_way_screen, val, groups):
    needs = run_needs(
        check_experiment(two_way_screen(val=val)), compose_config(["model=anchored", "model.set_size=16"])
    )
    assert needs.n_sets == groups  # of 16 cells each
    assert needs.notes == []


def test_too_few_validation_genes_are_told_where_a_network_has_to_prove_itself(two_way_screen):
    toml = two_way_screen(n_targets=16)
    toml.write_text(toml.read_text().replace(f"val = {[f'T{i}' for i in range(10)]}", "val = ['T0', 'T1']"))
    found = check_experiment(toml)
    (said,) = run_needs(found, compose_config(["model=anchored", "model.set_size=16"])).notes
    assert "at least 5 perturbations of val judge it, and 2 judge new targets (T)" in said
    assert run_needs(found, compose_config(SMALL)).notes == []


def test_too_few_genes_for_a_network_beside_a_backbone_are_told_of(two_way_screen):
    toml = two_way_screen(n_targets=11, val=False)
    toml.write_text(toml.read_text().replace("test = ['T10']", "test = ['T10', 'T1']"))
    with pytest.raises(StateshiftError, match="9 training genes are too few to hold some back"):
        run_needs(check_experiment(toml), compose_config(["model=anchored"]))
