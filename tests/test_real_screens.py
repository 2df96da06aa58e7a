"""The whole way on real cells: unseen genes and an unseen line (Norman, McFaline), unseen cell types (Kang)."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from stateshift.challenge import export_submission
from stateshift.evaluation import evaluate
from stateshift.features import create_features
from stateshift.prediction import predict
from stateshift.run import open_run
from stateshift.training import train

UNSEEN = ["KLF1", "KMT2A", "HK2", "SLC38A2"]
THEIR_DOUBLES = ["KLF1+MAP2K6", "KLF1+TGFBR2", "SET+KLF1", "MAP2K3+SLC38A2"]
WITHOUT_SEQUENCE = ["MIDN", "FOXO4", "IER5L", "MAP3K21", "TMSB4X", "NIT1"]


def test_unseen_genes_and_an_unseen_line_of_norman_and_mcfaline(shared_data, tmp_path, caplog):
    cells = shared_data / "cells" / "norman_mcfaline_5961x500.h5ad"
    toml = tmp_path / "norman.toml"
    toml.write_text(
        f'[datasets]\nnorman = "{cells}"\n[training]\nnorman = "train"\n[zeroshot]\n"norman.T98G" = "test"\n'
        f'[fewshot."norman.k562"]\nval = ["MAPK1", "MAPK1+TGFBR2"]\ntest = {UNSEEN + THEIR_DOUBLES}\n'.replace("'", '"')
    )
    table = create_features(
        from_toml=toml,
        fasta=shared_data / "proteins" / "human_subset.fasta",
        missing="drop",
        output=tmp_path / "esm.pt",
    )
    assert set(WITHOUT_SEQUENCE) <= set(table.provenance["missing"])
    assert all(gene in table for gene in UNSEEN)
    with caplog.at_level("WARNING"):
        run = train(
            toml,
            ["training.max_steps=20"],
            pert_features=tmp_path / "esm.pt",
            missing="drop",
            output_dir=tmp_path,
            name="r",
        )
    assert all(gene in caplog.text for gene in WITHOUT_SEQUENCE)
    trained = {g for ps in open_run(run).splits()["train"].values() for p in ps for g in p.split("+")}
    assert not trained & set(UNSEEN)

    predicted = predict(run, cells=cells, split="test", output=tmp_path / "predicted.h5ad")
    obs = ad.read_h5ad(predicted).obs
    pairs = set(zip(obs.context[~obs.is_control].astype(str), obs.target_gene[~obs.is_control].astype(str)))
    measured = ad.read_h5ad(cells).obs
    in_t98g = set(measured.perturbation[measured.cell_type == "T98G"].astype(str)) - {"control", "MAP3K21"}
    assert pairs == {("k562", p) for p in UNSEEN + THEIR_DOUBLES} | {("T98G", gene) for gene in in_t98g}

    scores = evaluate(predicted, cells).scores
    assert set(scores["model"]) == {
        "state_tiny",
        "control",
        "mean",
        "context_mean",
        "additive",
        "ridge",
        "knn",
        "transfer",
    }
    assert scores.groupby("model").size().unique().tolist() == [16]
    assert np.isfinite(scores[["mae", "pds_l1"]]).all(axis=None)

    genes = tmp_path / "genes.csv"
    genes.write_text("\n".join(ad.read_h5ad(cells).var_names) + "\n")
    made = export_submission(
        predicted, season="2025", genes=genes, expected_gene_dim=500, contexts=["k562"], output=tmp_path / "k562.vcc"
    )
    assert (made.perturbations, made.genes) == (8, 500)


@pytest.mark.parametrize("held_out", ["B cells", "CD14+ Monocytes", "CD4 T cells", "CD8 T cells", "FCGR3A+ Monocytes"])
def test_the_response_of_an_untreated_cell_type_is_no_worse_than_additive(shared_data, tmp_path, held_out):
    cells = shared_data / "cells" / "kang_ifnb_1556x1267.h5ad"
    columns = {"perturbation": "group_id", "cell_type": "cluster_id", "control": "ctrl"}
    toml = tmp_path / "kang.toml"
    toml.write_text(
        f'[datasets]\nkang = "{cells}"\n[training]\nkang = "train"\n[zeroshot]\n"kang.{held_out}" = "test"\n'
        '[features]\nsource = "onehot"\n[columns]\n' + "".join(f'{k} = "{v}"\n' for k, v in columns.items())
    )
    run = train(toml, ["training.max_steps=60", "training.val_every=60"], output_dir=tmp_path, name="run")
    predicted = predict(run, cells=cells, perturb=["stim"], contexts=[held_out], output=tmp_path / "p.h5ad")
    scored = evaluate(predicted, cells, perturbation="group_id", context="cluster_id", control="ctrl").scores
    pearson = scored.set_index("model")["pearson_delta"]
    assert 0.74 < pearson["additive"] < 0.91
    assert pearson["state_tiny"] >= pearson["additive"] - 0.02
    steps = pd.read_csv(run / "metrics.csv")
    assert steps.loc[steps["val_loss"].idxmin(), "step"] > 0
