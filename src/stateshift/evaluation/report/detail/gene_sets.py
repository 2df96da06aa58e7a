"""Which gene sets each gene is in, the smallest first."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from stateshift.errors import StateshiftError
from stateshift.features.sources.gene_sets import read_gmt
from stateshift.files import sha256

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


def set_files_of(runs: Iterable[Path], folders: Sequence[Path]) -> list[Path]:
    """GMT files that the features of runs were made of: of that name and that checksum, beside a run or in the folders."""
    found = []
    for run in runs:
        try:
            about = dict(json.loads((run / "features.pt.json").read_text()))
        except (OSError, ValueError, TypeError, RecursionError):
            continue
        name = Path(str(about.get("lookup", ""))).name
        if name.endswith(".gmt"):
            beside = (folder / name for folder in (run, run.parent, *folders) if (folder / name).is_file())
            found += [path for path in beside if sha256(path) == about.get("lookup_sha256")]
    return list(dict.fromkeys(path.resolve() for path in found))
