"""The embedded default: the whole way once, on real control cells with simulated effects."""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stateshift.files import new_folder, plain_strings

if TYPE_CHECKING:
    from anndata import AnnData

    from stateshift.evaluation import Evaluation

logger = logging.getLogger(__name__)

CELL_TYPES = {
    "Dendritic": "dendritic",
    "CD14+ Monocyte": "monocyte",
    "CD4+/CD25 T Reg": "T_regulatory",
    "CD8+ Cytotoxic T": "T_cytotoxic",
    "CD19+ B": "B",
}
NEVER_TREATED = "B"
TEST_GENES_A_FAMILY, VALIDATION_GENES_A_FAMILY = 2, 1
# Chosen on the validation genes of the treated cell types alone.
OVERRIDES = ("model.set_size=32", "training.max_steps=500", "training.val_every=50", "training.lr=3e-4")
ALL_PAIRS = "all test pairs"
REGIMES = {
    "gene never perturbed": (True, False),
    "cell type never treated": (False, True),
    "both at once": (True, True),
}


@dataclass
class DemoResult:
    """What the demo left and how the model did.

    Parameters
    ----------
    folder
        The output folder; all other paths lie in it.
    experiment, features, run, predictions, evaluation, report, submission
        The experiment TOML, the feature table, the run directory, the predicted h5ad, the folder of
        scores, the HTML report and the ``.vcc`` file.
    differences
        One row a (regime, baseline), Pearson delta: ``regime``, ``baseline``, ``model_mean``,
        ``baseline_mean``, ``difference`` (model minus baseline), ``low``, ``high`` (95 % paired bootstrap over
        perturbations; NaN with fewer than five), ``pairs``, ``perturbations``. Regimes: `ALL_PAIRS`, then those
        of `REGIMES`, the ways in which a pair can be new.
    seconds
        Step → wall-clock time.
    """

    folder: Path
    experiment: Path
    features: Path
    run: Path
    predictions: Path
    evaluation: Path
    report: Path
    submission: Path
    differences: pd.DataFrame
    seconds: dict[str, float]

    def sentences(self) -> list[str]:
        """What the model gained over each baseline and where it did not; for each regime, over the mean."""
        from stateshift.evaluation.tables import counted

        table = self.differences
        shown = table[(table["regime"] == ALL_PAIRS) | (table["baseline"] == "mean")]
        said = []
        for row in shown.itertuples():
            if np.isfinite([row.low, row.high]).all():
                verdict = "ahead of" if row.low > 0 else "behind" if row.high < 0 else "not told apart from"
                interval = f"95 % interval {row.low:+.3f} to {row.high:+.3f}"
            else:
                verdict, interval = "beside", "too few perturbations to tell"
            said.append(
                f"{row.regime} ({counted(row.pairs, row.perturbations)}): "
                f"Pearson delta {row.model_mean:.3f}, {verdict} `{row.baseline}` ({row.baseline_mean:.3f}): "
                f"difference {row.difference:+.3f}, {interval}."
            )
        return said


def run_demo(output: Path = Path("stateshift-demo"), seed: int = 0) -> DemoResult:
    """Features, training, zero-shot prediction, scores, report and challenge file on embedded data.

    The control cells are real (scanpy's bundled ``pbmc68k_reduced``); the CRISPRi effects and the protein
    sequences are simulated and marked so. In each of eight simulated protein families, five genes train,
    one validates and two are never perturbed; one of five cell types is never treated.

    Parameters
    ----------
    output
        The folder to make.
    seed
        Of the simulation, the training and the prediction.

    Raises
    ------
    StateshiftError
        The folder exists and is not empty.
    """
    from stateshift.challenge import export_submission
    from stateshift.evaluation import evaluate, write_report
    from stateshift.features import create_features
    from stateshift.prediction import predict
    from stateshift.training import train

    output = Path(output)
    seconds: dict[str, float] = {}
    with _whole_folder(output):
        with _step("simulating a screen on real control cells", seconds):
            experiment, unseen = write_experiment(output, seed)
        with _step("embedding the simulated proteins with the demo ESM2", seconds):
            features = output / "ESM2_pert_features.pt"
            create_features(from_toml=experiment, fasta=output / "proteins.fasta", output=features)
        with _step("training the state-transition model", seconds):
            run = train(experiment, [f"seed={seed}"], pert_features=features, output_dir=output / "runs", name="demo")
        with _step("predicting genes never perturbed and a cell type never treated", seconds):
            predictions = output / "predicted.h5ad"
            predict(run, cells=output / "controls.h5ad", split="test", output=predictions, seed=seed)
        with _step("scoring against the baselines", seconds):
            evaluation = evaluate(predictions, output / "screen.h5ad", output=output / "evaluation")
            differences = differences_by_regime(evaluation, unseen)
        with _step("writing the report", seconds):
            report = write_report(output, output / "report.html")
        with _step("writing the challenge file of the cell type never treated", seconds):
            submission = export_submission(
                predictions,
                season="2025",
                genes=output / "gene_names.csv",
                output=output / "submission.vcc",
                expected_gene_dim=evaluation.about["genes"],
                contexts=[NEVER_TREATED],
            ).path
    return DemoResult(
        output,
        experiment,
        features,
        run,
        predictions,
        output / "evaluation",
        report,
        submission,
        differences,
        seconds,
    )


def embedded_controls() -> AnnData:
    """Real control cells of five types: scanpy's bundled ``pbmc68k_reduced``, its log-normalised ``.raw``.

    Returns
    -------
    AnnData
        586 cells × 765 genes; ``obs["cell_type"]``; ``uns["stateshift"]["scale"]`` is ``log1p``, since the
        size factor can't be told from a part of the genes.
    """
    import scanpy

    stored = scanpy.datasets.pbmc68k_reduced()
    cells = stored[stored.obs["bulk_labels"].isin(list(CELL_TYPES))].raw.to_adata()
    labels = cells.obs["bulk_labels"].astype(str).map(CELL_TYPES)
    cells.obs = pd.DataFrame({"cell_type": labels})
    cells.uns = {"stateshift": {"scale": "log1p"}}
    for slot in (cells.obsm, cells.obsp, cells.varm):
        slot.clear()
    return cells


def write_experiment(folder: Path, seed: int) -> tuple[Path, list[str]]:
    """Write the screen, its controls, the proteins, the gene list and the experiment TOML.

    Returns
    -------
    tuple
        The TOML, and the genes that no training or validation cell was perturbed in.
    """
    import toml

    from stateshift.cells.simulate import simulate_proteins, simulate_screen

    screen = simulate_screen(embedded_controls(), seed=seed)
    with plain_strings():
        screen.write_h5ad(folder / "screen.h5ad")
        screen[screen.obs["target_gene"] == screen.uns["stateshift"]["control"]].write_h5ad(folder / "controls.h5ad")
    (folder / "proteins.fasta").write_text(simulate_proteins(screen, seed))
    (folder / "gene_names.csv").write_text("".join(f"{gene}\n" for gene in screen.var_names))

    place = _place_in_family(screen.uns["simulation"]["families"])
    genes = screen.uns["simulation"]["genes"]
    held_out = TEST_GENES_A_FAMILY + VALIDATION_GENES_A_FAMILY
    test = [str(g) for g in genes[place < TEST_GENES_A_FAMILY]]
    validation = [str(g) for g in genes[(place >= TEST_GENES_A_FAMILY) & (place < held_out)]]
    treated = [name for name in CELL_TYPES.values() if name != NEVER_TREATED]
    content = {
        "datasets": {"screen": "screen.h5ad"},
        "training": {"screen": "train"},
        "zeroshot": {f"screen.{NEVER_TREATED}": "test"},
        "fewshot": {f"screen.{name}": {"val": validation, "test": test} for name in treated},
        "run": {"model": "state_tiny", "overrides": list(OVERRIDES)},
    }
    heading = "# Written by `stateshift demo`: real control cells, simulated CRISPRi effects and proteins.\n"
    (folder / "experiment.toml").write_text(heading + toml.dumps(content))
    return folder / "experiment.toml", test


def _place_in_family(families: np.ndarray) -> np.ndarray:
    """Each gene's number within its family, (P,), in the order of the genes, which was drawn at random."""
    return pd.Series(families).groupby(families).cumcount().to_numpy()


def differences_by_regime(evaluation: Evaluation, unseen: list[str]) -> pd.DataFrame:
    """The model's Pearson delta beside each baseline's, in all and by what is new about a pair.

    Parameters
    ----------
    evaluation
        Its ``scores`` are read.
    unseen
        The genes never perturbed in training.
    """
    from stateshift.effects import EFFECT_MODELS
    from stateshift.metrics import paired_bootstrap

    wide = evaluation.scores.pivot(index=["context", "perturbation"], columns="model", values="pearson_delta")
    new_gene = wide.index.get_level_values("perturbation").isin(unseen)
    new_type = wide.index.get_level_values("context") == NEVER_TREATED
    parts = {ALL_PAIRS: np.ones(len(wide), dtype=bool)}
    parts |= {name: (new_gene == gene) & (new_type == kind) for name, (gene, kind) in REGIMES.items()}
    rows = []
    for regime, keep in parts.items():
        for baseline in sorted(evaluation.baselines, key=list(EFFECT_MODELS).index):
            ours, theirs = wide.loc[keep, evaluation.model], wide.loc[keep, baseline]
            found = paired_bootstrap(ours, theirs, ours.index.get_level_values("perturbation"))
            means = (ours.mean(), theirs.mean(), found.mean, found.low, found.high)
            rows.append((regime, baseline, *means, found.pairs, found.groups))
    names = ["regime", "baseline", "model_mean", "baseline_mean", "difference", "low", "high", "pairs", "perturbations"]
    return pd.DataFrame(rows, columns=names)


@contextlib.contextmanager
def _whole_folder(folder: Path) -> Iterator[None]:
    """Make a folder and take it away again where its making fails."""
    new_folder(folder)
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


@contextlib.contextmanager
def _step(name: str, seconds: dict[str, float]) -> Iterator[None]:
    """Say what begins and note how long it took."""
    logger.info("%s …", name)
    start = time.monotonic()
    yield
    seconds[name] = time.monotonic() - start
