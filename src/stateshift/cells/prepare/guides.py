"""Labels of guides, such as TP53_1, as the genes that they perturb."""

from __future__ import annotations

import pandas as pd

from stateshift.errors import StateshiftError, some


def genes_of_guides(labels: pd.Series, separator: str, control: str | None = None) -> pd.Series:
    """What stands before the last separator of every label, in each part of a double.

    The last one, since a symbol may hold the separator itself (``HLA-A-1``).

    Parameters
    ----------
    labels
        Perturbations (n,), a guide each; ``A_1+B_2`` is a double.
    separator
        What parts gene and guide.
    control
        A label that stays as it is.

    Returns
    -------
    Series
        Strings (n,); a part without the separator, or with nothing before it, stays.

    Raises
    ------
    StateshiftError
        No label holds the separator, or a double has it between its genes.

    Examples
    --------
    >>> genes_of_guides(pd.Series(["TP53_1", "TP53_2", "KLF1_2+MYC_1", "control"]), "_").tolist()
    ['TP53', 'TP53', 'KLF1+MYC', 'control']
    """
    names = {str(label): str(label) for label in labels.dropna().unique()}
    if not separator or not any(separator in name for name in names if name != control):
        raise StateshiftError(
            f"`{labels.name}` holds no label with the separator `{separator}` of gene and guide "
            f"(there are: {some(sorted(names))}): give the one it has, or leave --guide-separator out."
        )
    guided = [part for name in names if name != control for part in name.split("+") if separator in part]
    genes_alone = names.keys() | {part.rpartition(separator)[0] for part in guided}
    doubles = sorted({part for part in guided if part.rpartition(separator)[2] in genes_alone})
    if doubles:
        raise StateshiftError(
            f"behind `{separator}` some labels of `{labels.name}` name no guide but a perturbation ({some(doubles)}): a double "
            "is written A+B, or A_1+B_2 with guides; write them so, or leave --guide-separator out."
        )
    genes = {
        name: name if name == control else "+".join(part.rpartition(separator)[0] or part for part in name.split("+"))
        for name in names
    }
    return labels.map(lambda label: genes.get(str(label), label))
