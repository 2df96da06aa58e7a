"""A small set to learn on: a made-up protein, its alanine scan, and their embeddings by the demo model."""

from __future__ import annotations

import shutil
from pathlib import Path

from stateshift.files import written_beside

FOLDER = Path(__file__).resolve().parents[2] / "data" / "toy"
FASTA, EMBEDDINGS = FOLDER / "toy.fasta", FOLDER / "toy.pkl"


def copy_toy(folder: str | Path) -> list[Path]:
    """Put the toy set into a folder; nothing that is there is replaced.

    ``toy.fasta`` holds a wild type ``WT`` of 36 residues, invented for this, and a mutant ``M<number>_<position>`` for
    each of them: alanine in its place, or glycine for alanine. ``toy.pkl`` is a pickled dict ``{id: {"residue": (L, D),
    "protein": (D,)}}`` of numpy arrays, L = 36 and D = 128, mean pooled.

    Returns
    -------
    list of Path
        The FASTA and the pickle.

    Raises
    ------
    StateshiftError
        One of the files exists, or the folder can't be made.
    """
    copies = [Path(folder) / source.name for source in (FASTA, EMBEDDINGS)]
    for source, copy in zip((FASTA, EMBEDDINGS), copies):
        with written_beside(copy) as beside:
            shutil.copyfile(source, beside)
    return copies
