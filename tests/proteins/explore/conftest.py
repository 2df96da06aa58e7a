from __future__ import annotations

import numpy as np
import pytest

from stateshift.proteins import StoreWriter

SEQUENCES = {"WT": "MKVLAGW", "M1_3": "MKALAGW", "M2_6": "MKVLAEW", "sp|P1|A": "MSTNPKPQRK"}


@pytest.fixture
def sequences():
    """Two single mutants of WT, and a protein of another length."""
    return dict(SEQUENCES)


@pytest.fixture
def fasta(tmp_path, sequences):
    path = tmp_path / "x.fasta"
    path.write_text("".join(f">{id} made up\n{sequence}\n" for id, sequence in sequences.items()))
    return path


@pytest.fixture
def rows(sequences):
    """Id → (L, D) float32, drawn anew for each id."""
    rng = np.random.default_rng(0)
    return {id: rng.standard_normal((len(s), 4)).astype(np.float32) for id, s in sequences.items()}


@pytest.fixture
def store(tmp_path, sequences, rows):
    """A store of ours with both levels, mean pooled."""
    with StoreWriter(
        tmp_path / "x.h5.part", sequences, {"layer": 4}, model="made", width=4, levels=("residue", "protein")
    ) as writer:
        for number, id in enumerate(sequences):
            writer.add(number, {"residue": rows[id], "protein": rows[id].mean(0)})
        writer.finish(tmp_path / "x.h5")
    return tmp_path / "x.h5"
