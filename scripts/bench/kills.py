"""Kills at random moments: each stage is run again to its end, as a table in docs/reliability.md.

python scripts/bench/kills.py --kills 30
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import typer

from faults import SEQUENCES, digest, make_screen
from stateshift.errors import StateshiftError

SMALL = ["model.hidden=16", "model.ffn=16", "model.heads=2", "model.layers=1", "model.set_size=8"]


def stages(files: dict[str, Path], folder: Path) -> dict[str, tuple[Callable[[Path], None], Callable[[Path], str]]]:
    """Stage → what runs it in a folder, or goes on with what lies there, and what tells its result."""
    import anndata as ad
    import torch

    from stateshift.cells import Storage, read_cells
    from stateshift.challenge import export_submission
    from stateshift.feature_table import FeatureTable
    from stateshift.features import create_features
    from stateshift.prediction import predict
    from stateshift.run import open_run
    from stateshift.training import resume, train

    genes, fasta, names = folder / "genes.txt", folder / "proteins.fasta", folder / "names.csv"
    genes.write_text("\n".join(SEQUENCES))
    long = {gene: sequence * 6 for gene, sequence in SEQUENCES.items()}
    fasta.write_text("".join(f">sp|P{g}|{g} GN={g} PE=1\n{s}\n" for g, s in long.items()))
    names.write_text("\n".join(f"GENE{i}" for i in range(20)) + "\n")
    words = [*SMALL, "data.batch_size=3", "model.dropout=0.2", "training.max_steps=40", "training.val_every=5"]

    def features(to: Path) -> None:
        create_features(gene_list=genes, fasta=fasta, output=to / "f.pt")

    def cache(to: Path) -> None:
        read_cells(files["cells.h5ad"], storage=Storage(0, to / "cache"))

    def training(to: Path) -> None:
        if not (to / "run").exists():
            train(files["made.toml"], words, pert_features=files["features.pt"], output_dir=to, name="run")
            return
        try:
            open_run(to / "run")
        except StateshiftError:  # killed as it began: the sentence says to remove it
            shutil.rmtree(to / "run")
            training(to)
            return
        resume(to / "run")

    def prediction(to: Path) -> None:
        predict(folder / "run", cells=files["cells.h5ad"], perturb="G1,G2,G3", output=to / "p.h5ad")

    def export(to: Path) -> None:
        export_submission(
            folder / "p.h5ad", season="2025", genes=names, contexts=["T98G"], expected_gene_dim=20, output=to / "s.vcc"
        )

    def weights(to: Path) -> str:
        stored = torch.load(to / "run" / "checkpoints" / "last.ckpt", weights_only=True)
        return digest([dict(stored["state_dict"]), (to / "run" / "metrics.csv").read_text().count("\n")])

    def table(to: Path) -> str:
        made = FeatureTable.load(to / "f.pt")
        return digest([made.genes, np.round(made.vectors, 4)])

    def read(to: Path) -> str:
        return digest(read_cells(files["cells.h5ad"], storage=Storage(0, to / "cache")).X.csr().toarray())

    def predicted(to: Path) -> str:
        made = ad.read_h5ad(to / "p.h5ad")
        return digest([made.X.toarray(), made.obs])

    if not (folder / "run").exists():
        training(folder)
        prediction(folder)
    return {
        "features": (features, table),
        "cache": (cache, read),
        "training": (training, weights),
        "prediction": (prediction, predicted),
        "export": (export, lambda to: digest((to / "s.vcc").read_bytes())),
    }


def killed_and_run_again(
    run: Callable[[Path], None], result: Callable[[Path], str], folder: Path, seconds: float
) -> tuple[bool, str]:
    """Kill a stage after some seconds, run it again to its end; whether it was still at work, and its result."""
    child = os.fork()
    if child == 0:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1), os.dup2(quiet, 2)
        try:
            run(folder)
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    was_killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    try:
        run(folder)
    except StateshiftError as error:
        if was_killed or not any(sign in str(error) for sign in ("exists", "is at step")):
            raise
    return was_killed, result(folder)


def main(kills: int = 30, seed: int = 0, only: str = "") -> None:
    """Print a row a stage: kills at random moments, and how many ended with another result."""
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        made = stages(make_screen(folder), folder)
        print(
            "| stage | kills while at work | of | other results | seconds unbroken |\n|---|---|---|---|---|", flush=True
        )
        for name, (run, result) in made.items():
            if only and only not in name:
                continue
            for turn in ("first", "again"):  # what is imported and compiled once is no part of the time
                whole = folder / f"{name}_{turn}"
                whole.mkdir()
                start = time.perf_counter()
                run(whole)
                seconds, due = time.perf_counter() - start, result(whole)
            at_work, other = 0, 0
            for i in range(kills):
                to = folder / f"{name}_{i}"
                to.mkdir()
                was_killed, got = killed_and_run_again(run, result, to, float(rng.uniform(0, seconds)))
                at_work, other = at_work + was_killed, other + (got != due)
                shutil.rmtree(to)
            print(f"| {name} | {at_work} | {kills} | {other} | {seconds:.2f} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
