"""Train a model that reads gene names and embeds their proteins with ESM2; calls ``stateshift train model=esm_state``."""

from pathlib import Path
from typing import Annotated

import typer

from stateshift.cli.main import call


def main(
    config: Annotated[Path, typer.Option(help="The experiment TOML, as configs/examples/esm_genetic_example.toml.")],
    output_dir: Annotated[
        Path, typer.Option("--output-dir", "--output_dir", help="Where the run's folder goes.")
    ] = Path("runs"),
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", "--batch_size", help="Sets of cells a step; default the config's.")
    ] = None,
    max_steps: Annotated[
        int | None, typer.Option("--max-steps", "--max_steps", help="Training steps; default the config's.")
    ] = None,
    unfreeze_esm_layers: Annotated[
        int | None,
        typer.Option("--unfreeze-esm-layers", "--unfreeze_esm_layers", help="ESM2's last layers to train too."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The run's folder; default CONFIG_esm_state.")] = None,
    missing: Annotated[str | None, typer.Option(help="Genes without a protein: error, or drop them by name.")] = None,
    init_from: Annotated[
        Path | None, typer.Option("--init-from", "--init_from", help="A trained run to fine-tune.")
    ] = None,
) -> None:
    """Train the state-transition model with the ESM2 perturbation encoder."""
    from stateshift.cli.training import train

    given = {
        "data.batch_size": batch_size,
        "training.max_steps": max_steps,
        "model.unfreeze_esm_layers": unfreeze_esm_layers,
    }
    train(
        experiment=config,
        overrides=["model=esm_state", *(f"{key}={value}" for key, value in given.items() if value is not None)],
        missing=missing,
        init_from=init_from,
        output_dir=output_dir,
        name=name,
    )


if __name__ == "__main__":
    call(lambda: typer.run(main))
