r"""The whole way on a real screen: an unseen line and unseen genes, with ESM2 features, to a checked `.vcc`.

Norman (CRISPRa, K562) with McFaline (CRISPRi, glioblastoma):
    python scripts/bench/unseen_genes_and_line.py norman_mcfaline.h5ad --fasta human.fasta --line T98G \
        --genes-in k562 --val MAPK1,MAPK1+TGFBR2 --output norman_way \
        --test KLF1,KMT2A,HK2,SLC38A2,KLF1+MAP2K6,KLF1+TGFBR2,SET+KLF1,MAP2K3+SLC38A2
The doubles that hold an unseen gene are held out with it. It needs the extra `official`. The lines differ in the kind
of CRISPR and are nearly noise at this size, so no accuracy is claimed: the table shows that the way holds, and what the
model does and does not beat.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from stateshift.cli.main import call


def main(
    data: Annotated[Path, typer.Argument(help="An h5ad file with conventional column names.")],
    fasta: Annotated[Path, typer.Option(help="Protein sequences with GN= symbols.")],
    line: Annotated[str, typer.Option(help="The zero-shot cell type.")],
    genes_in: Annotated[str, typer.Option(help="The cell type whose genes are held out.")],
    test: Annotated[str, typer.Option(help="Its unseen genes, A,B,…")],
    val: Annotated[str, typer.Option(help="Its genes that choose the checkpoint.")],
    output: Annotated[Path, typer.Option(help="The folder to make.")],
    override: Annotated[list[str] | None, typer.Option(help="A Hydra override, as training.max_steps=500.")] = None,
) -> None:
    """Print Markdown tables and what cell-eval said of the file."""
    import anndata as ad
    import toml

    from stateshift.challenge import export_submission
    from stateshift.evaluation import evaluate, sentences
    from stateshift.evaluation.official import refuse_without_cell_eval
    from stateshift.features import create_features
    from stateshift.files import new_folder
    from stateshift.prediction import predict
    from stateshift.training import train

    refuse_without_cell_eval()
    new_folder(output)
    experiment = output / "experiment.toml"
    content = {
        "datasets": {"screen": str(data.resolve())},
        "training": {"screen": "train"},
        "zeroshot": {f"screen.{line}": "test"},
        "fewshot": {f"screen.{genes_in}": {"val": val.split(","), "test": test.split(",")}},
    }
    experiment.write_text(toml.dumps(content))
    start = time.perf_counter()
    table = create_features(from_toml=experiment, fasta=fasta, missing="drop", output=output / "features.pt")
    typer.echo(f"no protein in {fasta.name}: {', '.join(table.provenance['missing'])}\n")
    run = train(
        experiment, override or [], pert_features=output / "features.pt", missing="drop", output_dir=output, name="run"
    )
    predicted = predict(run, cells=data, split="test", output=output / "predicted.h5ad")
    result = evaluate(predicted, data, output=output / "scores", official=True)
    summary = result.summary.pivot_table(index=["context", "model"], columns="metric", values="mean")
    typer.echo("| context | model | " + " | ".join(summary.columns) + " |\n" + "|---" * (2 + summary.shape[1]) + "|")
    for (context, model), row in summary.iterrows():
        typer.echo(f"| {context} | {model} | " + " | ".join(f"{value:.3f}" for value in row) + " |")
    typer.echo("\n" + "\n".join(sentences(result)))
    typer.echo("\ncell-eval:\n" + result.official.to_string(index=False, float_format="%.3f"))

    genes = output / "gene_names.csv"
    genes.write_text("".join(f"{gene}\n" for gene in ad.read_h5ad(data, backed="r").var_names))
    for context in (line, genes_in):
        made = export_submission(
            predicted,
            season="2025",
            genes=genes,
            expected_gene_dim=sum(1 for _ in genes.open()),
            contexts=[context],
            output=output / f"{context}.vcc",
        )
        typer.echo(
            f"\n{made.path.name}: {made.cells} cells, {made.perturbations} targets; {_cell_eval_says(made.path, genes)}"
        )
    typer.echo(f"\n{time.perf_counter() - start:.0f} s in all")


def _cell_eval_says(submission: Path, genes: Path) -> str:
    """What cell-eval's own preparation says of the cells inside a submission."""
    import io
    import tarfile
    import tempfile

    import anndata as ad
    import zstandard
    from cell_eval._cli._prep import strip_anndata

    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(submission) as tar:
            packed = tar.extractfile("pred.h5ad.zst").read()
        inside = Path(folder) / "pred.h5ad"
        inside.write_bytes(zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed)).read())
        names = genes.read_text().split()
        again = Path(folder) / "again.vcc"
        strip_anndata(ad.read_h5ad(inside), str(again), names, exp_gene_dim=len(names), encoding=32)
        return f"cell-eval prep accepts it ({again.stat().st_size:,} bytes repacked)" if again.exists() else "refused"


if __name__ == "__main__":
    call(lambda: typer.run(main))
