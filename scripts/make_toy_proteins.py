"""Make the toy set that stateshift ships: a made-up protein, its alanine scan, their embeddings by the demo model.

python scripts/make_toy_proteins.py --output toy
"""

from __future__ import annotations

import argparse
from pathlib import Path

from stateshift.files import written_beside
from stateshift.proteins.embed_file import embed_fasta

WT = "MKTAYDERGLVSWNPQHICFEAKLGTVDRSYMNWPQ"


def alanine_scan(sequence: str) -> dict[str, str]:
    """WT, and for each residue a mutant with alanine in its place, or glycine for alanine."""
    mutants = {
        f"M{i}_{i}": sequence[: i - 1] + ("G" if residue == "A" else "A") + sequence[i:]
        for i, residue in enumerate(sequence, start=1)
    }
    return {"WT": sequence, **mutants}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--output", type=Path, required=True, help="a folder for toy.fasta and toy.pkl")
    folder = arguments.parse_args().output
    with written_beside(folder / "toy.fasta") as beside:
        beside.write_text("".join(f">{id}\n{sequence}\n" for id, sequence in alanine_scan(WT).items()))
    embed_fasta(folder / "toy.fasta", folder / "toy.pkl", level="both", precision="fp32")


if __name__ == "__main__":
    main()
