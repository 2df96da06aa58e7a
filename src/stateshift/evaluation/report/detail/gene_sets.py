"""Which gene sets each gene is in, the smallest first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from stateshift.errors import StateshiftError
from stateshift.features.gene_sets import read_gmt

MOST_SETS = 4
"""Sets that are told of a gene."""


def sets_by_gene(path: Path, genes: Sequence[str], most: int = MOST_SETS) -> dict[str, list[str]]:
    """Of each gene the sets that it is in, from the smallest up, for a small set says more.

    Parameters
    ----------
    path
        A GMT file.
    genes
        Symbols as the file spells them; a gene in no set is left out.
    most
        Sets a gene.

    Raises
    ------
    StateshiftError
        The file can't be read as GMT, or knows none of the genes.
    """
    wanted = set(genes)
    found: dict[str, list[str]] = {}
    sets = read_gmt(path)
    for name in sorted(sets, key=lambda name: (len(sets[name]), name)):
        for gene in wanted & sets[name]:
            held = found.setdefault(gene, [])
            if len(held) < most:
                held.append(name)
    if not found:
        raise StateshiftError(f"{path}: none of the {len(wanted):,} genes of the prediction is in its sets.")
    return found


def set_files_of(runs: Iterable[Path]) -> list[Path]:
    """GMT files that the features of runs were made of and that are still there."""
    import toml

    found = []
    for run in runs:
        try:
            features = toml.loads((run / "experiment.toml").read_text()).get("features", {})
        except (OSError, toml.TomlDecodeError):
            continue
        lookup = features.get("lookup")
        if isinstance(lookup, str) and lookup.endswith(".gmt") and (run / lookup).is_file():
            found.append((run / lookup).resolve())
    return list(dict.fromkeys(found))
