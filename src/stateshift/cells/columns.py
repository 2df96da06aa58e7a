"""Which obs columns hold the perturbation, the cell type and the batch, and which value is control."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from stateshift.errors import InputProblems, some, suggestion

PERTURBATION = ("target_gene", "gene", "perturbation", "condition")
CELL_TYPE = ("cell_type", "cell_line", "context")
BATCH = ("batch", "batch_var", "gem_group")
CONTROL = ("non-targeting", "control", "ctrl", "NTC")


@dataclass(frozen=True)
class Columns:
    """The obs columns of one file and its control's name; ``batch`` is None where there is none."""

    perturbation: str
    cell_type: str
    batch: str | None
    control: str

    def __str__(self) -> str:
        return (
            f"perturbation `{self.perturbation}`, cell type `{self.cell_type}`, "
            f"batch {f'`{self.batch}`' if self.batch else '(none)'}, control `{self.control}`"
        )


def find_columns(
    obs: pd.DataFrame,
    declared: Mapping[str, str] | None = None,
    where: str = "obs",
    needs_control: bool = True,
) -> Columns:
    """Columns as declared, or by convention where nothing is declared.

    Parameters
    ----------
    obs
        The table to look in.
    declared
        Any of ``perturbation``, ``cell_type``, ``batch``, ``control``, as in ``[columns]``.
    where
        The file's name, for errors.
    needs_control
        Whether the control has to occur in the column.

    Raises
    ------
    InputProblems
        A declared column or control is absent, or none goes by a conventional name.

    Examples
    --------
    >>> obs = pd.DataFrame({"gene": ["A", "ctrl"], "cell_line": ["K562", "K562"]})
    >>> str(find_columns(obs))
    'perturbation `gene`, cell type `cell_line`, batch (none), control `ctrl`'
    """
    declared = {k: str(v) for k, v in (declared or {}).items() if v is not None}
    problems: list[str] = []

    def column(role: str, convention: tuple[str, ...], needed: bool = True, otherwise: str = "") -> str | None:
        name = declared.get(role)
        if name is not None:
            if name in obs.columns:
                return name
            problems.append(f"obs has no column `{name}` for the {role}{suggestion(name, obs.columns)}.")
            return None
        found = next((c for c in convention if c in obs.columns), None)
        if found is None and needed:
            problems.append(
                f"no obs column for the {role} ({', '.join(convention)}): name it in [columns] {role} = …{otherwise}; "
                f"the columns are {', '.join(map(str, obs.columns)) or 'none'}."
            )
        return found

    perturbation = column("perturbation", PERTURBATION)
    one_type = ', or add it where all cells are of one type, adata.obs["cell_type"] = "K562"'
    cell_type = column("cell_type", CELL_TYPE, otherwise=one_type)
    batch = column("batch", BATCH, needed=False)
    control = declared.get("control")
    if perturbation is not None:
        values = {str(v) for v in obs[perturbation].unique()}
        if control is None:
            present = [c for c in CONTROL if c in values]
            control = present[0] if present else None
            if len(present) > 1:
                problems.append(
                    f"`{perturbation}` holds {' and '.join(present)}: name the one that is control in [columns] control = …, "
                    "and rename or drop the others."
                )
            if control is None and needs_control:
                largest = obs[perturbation].astype(str).value_counts().index
                problems.append(
                    f"no control cells: `{perturbation}` holds none of {', '.join(CONTROL)}; "
                    f"name the control in [columns] control = …{suggestion('control', values)}; "
                    f"the largest groups are {some(largest[:3])}."
                )
        elif control not in values and needs_control:
            problems.append(f"no control cells: `{perturbation}` never says `{control}`{suggestion(control, values)}.")
    if problems:
        raise InputProblems(where, problems)
    return Columns(perturbation, cell_type, batch, control or CONTROL[0])
