"""Train on a table of ESM2 features with the flags of the challenge's starter pack; calls ``stateshift train``."""

from pathlib import Path
from typing import Annotated

import typer

from stateshift.cli.main import call


def main(
    config: Annotated[Path, typer.Option(help="The experiment TOML.")],
    pert_features: Annotated[Path, typer.Option(help="The table that create_esm_pert_features made.")],
    pert_col: Annotated[str | None, typer.Option(help="The obs column of the perturbation.")] = None,
    control_pert: Annotated[str | None, typer.Option(help="The control's name in it.")] = None,
    cell_type_key: Annotated[str | None, typer.Option(help="The obs column of the cell type.")] = None,
    batch_col: Annotated[str | None, typer.Option(help="The obs column of the batch.")] = None,
    model: Annotated[str, typer.Option(help="state, state_sm, state_lg or state_tiny.")] = "state_sm",
    max_steps: Annotated[int, typer.Option(help="Training steps.")] = 40000,
    output_dir: Annotated[Path, typer.Option(help="Where the run's folder goes.")] = Path("runs"),
    name: Annotated[str | None, typer.Option(help="The run's folder.")] = None,
    missing: Annotated[
        str | None,
        typer.Option(help="Genes without a vector: error, or drop; of a table that is made here also zero or mean."),
    ] = None,
) -> None:
    """Train the state-transition model on precomputed perturbation features."""
    from stateshift.cli.training import train

    train(
        experiment=config,
        overrides=[f"model={model}", f"training.max_steps={max_steps}"],
        pert_features=pert_features,
        pert_col=pert_col,
        control_pert=control_pert,
        cell_type_key=cell_type_key,
        batch_col=batch_col,
        missing=missing,
        output_dir=output_dir,
        name=name,
    )


if __name__ == "__main__":
    call(lambda: typer.run(main))
