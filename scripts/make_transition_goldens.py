"""Make tests/assets/transition: what arc-state computes from random weights, for our model to be held against.

    python scripts/make_transition_goldens.py ARC_ENVIRONMENT [OUTPUT]

ARC_ENVIRONMENT is a virtual environment with arc-state installed (its bin/python is run). Every case is one .npz
(no pickles: weights under "weight:…", inputs under "input:…", outputs under "output:…") and an entry of cases.json
with arc-state's own keyword arguments; versions.json says what made them. The weights are random, nobody's training.
arc_run/ is a run directory as `state tx train` leaves it after six steps on made cells, its checkpoint without the
trainer's state; arc_run.npz holds the cells and what arc-state predicts from them. arc_run_all/ and arc_run_all.npz are
the same of a run on obsm X_hvg that decodes every gene of X.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

DEFAULT = Path(__file__).resolve().parents[1] / "tests" / "assets" / "transition"

# the published presets, their widths scaled down and their depth and options kept
PRESETS = {
    "state": {"width": 24, "ffn": 48, "layers": 2, "heads": 3, "n_encoder_layers": 1, "n_decoder_layers": 1},
    "state_sm": {
        "width": 16, "ffn": 32, "layers": 2, "heads": 2, "n_encoder_layers": 4, "n_decoder_layers": 4,
        "use_basal_projection": False, "gene_decoder_bool": False,
    },
    "state_lg": {
        "width": 24, "ffn": 48, "layers": 2, "heads": 3, "n_encoder_layers": 4, "n_decoder_layers": 4,
        "use_basal_projection": False,
    },
}  # fmt: skip
TINY = {"width": 16, "ffn": 32, "layers": 1, "heads": 2, "n_encoder_layers": 2, "n_decoder_layers": 2}
ALONE = {"gene_decoder_bool": False}
OPTIONS = {
    "no_residual": {**ALONE, "predict_residual": False},
    "all": {**ALONE, "output_space": "all"},
    "all_by_decoder": {"output_space": "all", "embed_key": "X_hvg"},
    "all_by_decoder_no_residual": {"output_space": "all", "embed_key": "X_hvg", "predict_residual": False},
    "embedding": {"output_space": "embedding", "embed_key": "X_state"},
    "embedding_to_genes": {"output_space": "gene", "embed_key": "X_state"},
    "embedding_to_all": {"output_space": "all", "embed_key": "X_state"},
    "batch_encoder": {**ALONE, "batch_encoder": True},
    "batch_token": {**ALONE, "use_batch_token": True},
    "confidence_token": {**ALONE, "confidence_token": True},
    "mask_attn": {**ALONE, "mask_attn": True},
    "tokens_all": {"use_batch_token": True, "confidence_token": True, "output_space": "all", "embed_key": "X_hvg"},
    "mask_attn_batch_encoder_embedding": {
        "mask_attn": True, "batch_encoder": True, "output_space": "gene", "embed_key": "X_state",
    },
    "confidence_batch_encoder_linear": {
        **ALONE, "confidence_token": True, "batch_encoder": True, "use_basal_projection": False,
    },
}  # fmt: skip
CASES = {**PRESETS, **{name: {**TINY, **options} for name, options in OPTIONS.items()}}
B, S, GENES, FEATURES, BATCHES, DECODED = 2, 6, 18, 5, 3, 11


RUN_OPTIONS = (
    "data.kwargs.toml_config_path=experiment.toml", "data.kwargs.num_workers=0", "data.kwargs.batch_col=batch",
    "data.kwargs.pert_col=target_gene", "data.kwargs.control_pert=non-targeting", "data.kwargs.output_space=gene",
    "model=state", "model.kwargs.cell_set_len=8", "model.kwargs.hidden_dim=8", "model.kwargs.batch_encoder=true",
    "+model.kwargs.decoder_hidden_dims=[8,8,8]",
    *(f"model.kwargs.transformer_backbone_kwargs.{option}" for option in (
        "intermediate_size=16", "num_hidden_layers=1", "num_attention_heads=2", "num_key_value_heads=2", "head_dim=4",
    )),
    "+model.kwargs.transformer_backbone_kwargs.vocab_size=32", "training.max_steps=6", "training.val_freq=3",
    "training.batch_size=2", "use_wandb=false", "output_dir=.", "name=run",
)  # fmt: skip
RUNS = {
    "arc_run": (),
    "arc_run_all": (
        "data.kwargs.embed_key=X_hvg", "data.kwargs.output_space=all", "model.kwargs.batch_encoder=false",
        "training.lr=0.03", "training.max_steps=40",
    ),
}  # fmt: skip
"""What each run says beside `RUN_OPTIONS`."""
RUN_FILES = (
    "config.yaml", "data_module.torch", "pert_onehot_map.pt", "batch_onehot_map.torch", "cell_type_onehot_map.torch",
    "var_dims.pkl",
)  # fmt: skip


def make_in(environment: Path, output: Path) -> None:
    """Run this file, and arc-state's training, with the environment's Python."""
    output.mkdir(parents=True, exist_ok=True)
    python = environment / "bin" / "python"
    subprocess.run([python, __file__, "--in-arc", output], check=True)
    for name in RUNS:
        make_run(environment, output, name)


def make_run(environment: Path, output: Path, name: str) -> None:
    """One of `RUNS`, trained and predicted with by arc-state."""
    with tempfile.TemporaryDirectory() as folder:
        write_cells(Path(folder), genes=20 if name == "arc_run_all" else 12)
        state = environment / "bin" / "state"
        subprocess.run([state, "tx", "train", *RUN_OPTIONS, *RUNS[name]], cwd=folder, check=True)
        script = [environment / "bin" / "python", Path(__file__).resolve()]
        subprocess.run([*script, "--run-in-arc", output.resolve(), name], cwd=folder, check=True)


def write_cells(folder: Path, genes: int) -> None:
    """Made cells, eight controls a context and so one set of them, the last twelve genes in X_hvg; an experiment."""
    import anndata as ad
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    rows = [
        (context, perturbation, f"b{i % 2}")
        for context in ("A549", "K562")
        for perturbation in ("non-targeting", "G1", "G2", "G3")
        for i in range(8)
    ]
    obs = pd.DataFrame(rows, columns=["cell_type", "target_gene", "batch"], dtype="category")
    obs.index = [f"cell{i}" for i in range(len(obs))]
    names = [f"GENE{i}" for i in range(genes)]
    X = rng.normal(1.5, 0.7, (len(obs), genes)).clip(0).astype(np.float32)
    var = pd.DataFrame({"gene_name": names}, index=names)
    ad.AnnData(X, obs=obs, var=var, uns={"log1p": {}}, obsm={"X_hvg": X[:, -12:]}).write_h5ad(folder / "cells.h5ad")
    (folder / "experiment.toml").write_text(
        '[datasets]\nmade = "."\n[training]\nmade = "train"\n[fewshot."made.K562"]\nval = ["G2"]\ntest = ["G3"]\n'
    )


def keep_run(output: Path, name: str) -> None:
    """Copy what a run needs, and predict from it; arc-state is imported here alone."""
    import anndata as ad
    import numpy as np
    import torch
    from state.tx.models.state_transition import StateTransitionPerturbationModel

    shutil.rmtree(output / name, ignore_errors=True)
    (output / name / "checkpoints").mkdir(parents=True)
    for file in RUN_FILES:
        shutil.copyfile(Path("run") / file, output / name / file)
    trained = Path("run/checkpoints/final.ckpt")
    stored = torch.load(trained, weights_only=False)
    for trainers in ("callbacks", "loops", "optimizer_states", "lr_schedulers"):
        stored.pop(trainers)
    torch.save(stored, output / name / "checkpoints" / "final.ckpt")

    model = StateTransitionPerturbationModel.load_from_checkpoint(trained).eval()
    vectors = torch.load("run/pert_onehot_map.pt", weights_only=False)
    cells = ad.read_h5ad("cells.h5ad")
    kept = {column: cells.obs[column].to_numpy().astype(str) for column in cells.obs} | {"X": cells.X}
    for context in ("A549", "K562"):
        controls = cells[(cells.obs["cell_type"] == context) & (cells.obs["target_gene"] == "non-targeting")]
        for perturbation in ("G1", "G3"):
            batch = {
                "ctrl_cell_emb": torch.from_numpy(np.asarray(controls.obsm["X_hvg"])),
                "pert_emb": vectors[perturbation].float().repeat(len(controls), 1),
                "batch": torch.tensor([int(batch[1:]) for batch in controls.obs["batch"]]),
            }
            with torch.no_grad():
                made = model.predict_step(batch, 0, padded=False)
            genes = made["pert_cell_counts_preds" if model.output_space == "all" else "preds"]
            kept[f"predicted:{context}:{perturbation}"] = genes.numpy()
    np.savez_compressed(output / f"{name}.npz", **kept)


def arc_arguments(case: dict) -> dict:
    """arc-state's keyword arguments for a case."""
    options = dict(case)
    width, ffn, layers, heads = (options.pop(name) for name in ("width", "ffn", "layers", "heads"))
    output_space = options.pop("output_space", "gene")
    decoder = None
    if output_space != "embedding" and options.get("gene_decoder_bool", True):
        decoder = {"latent_dim": GENES, "gene_dim": DECODED, "hidden_dims": [12, 12, 8], "dropout": 0.1}
    return {
        "input_dim": GENES, "output_dim": GENES, "pert_dim": FEATURES, "batch_dim": BATCHES, "hidden_dim": width,
        "gene_dim": DECODED, "hvg_dim": DECODED, "output_space": output_space, "embed_key": options.pop("embed_key", None),
        "basal_mapping_strategy": "batch", "cell_set_len": S, "transformer_backbone_key": "llama", "decoder_cfg": decoder,
        "transformer_backbone_kwargs": {
            "bidirectional_attention": True, "max_position_embeddings": S, "hidden_size": width,
            "intermediate_size": ffn, "num_hidden_layers": layers, "num_attention_heads": heads,
            "num_key_value_heads": heads, "head_dim": width // heads, "use_cache": False, "attention_dropout": 0.0,
            "hidden_dropout": 0.0, "layer_norm_eps": 1e-6, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
            "tie_word_embeddings": False, "rotary_dim": 0, "use_rotary_embeddings": False, "vocab_size": 32,
        },
        **options,
    }  # fmt: skip


def make_here(output: Path) -> None:
    """Write every case; arc-state is imported here alone."""
    from importlib.metadata import version

    import torch
    from state.tx.models.state_transition import StateTransitionPerturbationModel

    described = {}
    for number, (name, case) in enumerate(CASES.items()):
        torch.manual_seed(number)
        arguments = arc_arguments(case)
        described[name] = json.loads(json.dumps(arguments))
        model = StateTransitionPerturbationModel(**arguments).eval()
        for parameter_name, parameter in model.named_parameters():
            # norms and biases of fresh weights are ones and zeros, which would hide what they do
            if parameter.dim() == 1:
                torch.nn.init.normal_(parameter, mean=float("norm" in parameter_name), std=0.2)
        write_case(output / f"{name}.npz", model)
    (output / "cases.json").write_text(json.dumps(described, indent=1) + "\n")
    versions = {package: version(package) for package in ("arc-state", "torch", "transformers")}
    (output / "versions.json").write_text(json.dumps(versions, indent=1) + "\n")


def write_case(path: Path, model) -> None:
    """Random cells through the model; its weights, what went in and what came out."""
    import numpy as np
    import torch

    vectors = torch.randn(B, FEATURES)
    batch = {
        "ctrl_cell_emb": torch.rand(B * S, GENES) * 3 * (torch.rand(B * S, GENES) > 0.3),
        "pert_emb": vectors.repeat_interleave(S, dim=0),
        "batch": torch.randint(BATCHES, (B * S,)),
    }
    with torch.no_grad():
        predicted = model.predict_step(batch, 0)
        outputs = {"cells": predicted["preds"]}
        if model.gene_decoder is not None:
            outputs["genes"] = predicted["pert_cell_counts_preds"]
        if "confidence_pred" in predicted:
            outputs["confidence"] = predicted["confidence_pred"]
        if model.batch_classifier is not None:
            outputs["batch_logits"] = model.batch_classifier(model._batch_token_cache)
    stored = {f"weight:{name}": value for name, value in model.state_dict().items() if "embed_tokens" not in name}
    stored |= {f"input:{name}": value for name, value in batch.items()}
    stored |= {f"output:{name}": value for name, value in outputs.items()}
    np.savez_compressed(path, **{name: value.numpy() for name, value in stored.items()})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--in-arc"]:
        make_here(Path(sys.argv[2]))
    elif sys.argv[1:2] == ["--run-in-arc"]:
        keep_run(Path(sys.argv[2]), sys.argv[3])
    else:
        words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
        words.add_argument("environment", type=Path, help="a virtual environment with arc-state")
        words.add_argument("output", type=Path, nargs="?", default=DEFAULT, help="default tests/assets/transition")
        asked = words.parse_args()
        if not (asked.environment / "bin" / "state").is_file():
            words.error(f"{asked.environment} holds no arc-state: there is no bin/state in it")
        make_in(asked.environment, asked.output)
