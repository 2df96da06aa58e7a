import csv

import anndata as ad
import numpy as np
import pytest

from stateshift.errors import StateshiftError
from stateshift.prediction import predict
from stateshift.run import open_run
from stateshift.training import train

FAST = [
    "model.hidden=16", "model.ffn=16", "model.heads=2", "model.layers=1", "model.set_size=8", "training.max_steps=60",
    "training.val_every=60", "training.lr=3e-3",
]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "terms"),
    [
        (["model.batch_encoder=true"], []),
        (["model.batch_token=true", "data.by_batch=true"], ["batch_token"]),
        (["model.confidence_token=true"], ["confidence"]),
        (["model.batch_token=true", "model.confidence_token=true"], ["batch_token", "confidence"]),
        (["model.mask_attn=true"], []),
        (["model.output_space=all"], []),
        (["model.output_space=all", "model.start=none", "model.batch_encoder=true"], []),
    ],
)
def test_every_option_trains_and_predicts(screen, tmp_path, options, terms):
    path = train(screen.toml, [*FAST, *options], pert_features=screen.table, output_dir=tmp_path, name="run")
    run = open_run(path)
    assert run.batches() == (["b0", "b1"] if any("batch_" in o and "by_" not in o for o in options) else [])
    rows = list(csv.DictReader(run.metrics_file.open()))
    for term in terms:
        assert np.isfinite(float(rows[-1][f"val_{term}"]))
        assert float(rows[-1][f"val_{term}"]) < float(rows[0][f"val_{term}"])
    predicted = ad.read_h5ad(predict(path, cells=screen.cells, perturb="G1", output=tmp_path / "out.h5ad"))
    assert np.isfinite(predicted.X.data).all()


def test_batches_without_a_column_of_them_are_refused_in_words(screen, tmp_path):
    adata = ad.read_h5ad(screen.cells)
    del adata.obs["batch"]
    adata.write_h5ad(screen.cells)
    with pytest.raises(StateshiftError, match="model.batch_encoder=true: the data name no batches"):
        train(
            screen.toml,
            [*FAST, "model.batch_encoder=true"],
            pert_features=screen.table,
            output_dir=tmp_path,
            name="run",
        )
