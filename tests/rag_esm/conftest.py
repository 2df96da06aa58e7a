"""A checkpoint in the published layout, every weight random, and small models."""

from __future__ import annotations

import numpy as np
import pytest
import torch

CROSS_LINEAR = {
    "crossattention.self.query": (1, 1),
    "crossattention.self.key": (1, 1),
    "crossattention.self.value": (1, 1),
    "crossattention.output.dense": (1, 1),
    "intermediate_crossattention.dense": (4, 1),
    "output_crossattention.dense": (1, 4),
}
ESM_LINEAR = {
    "attention.self.query": (1, 1),
    "attention.self.key": (1, 1),
    "attention.self.value": (1, 1),
    "attention.output.dense": (1, 1),
    "intermediate.dense": (4, 1),
    "output.dense": (1, 4),
}


def linear(name: str, rows: int, columns: int) -> dict[str, torch.Tensor]:
    """A random matrix and bias."""
    return {f"{name}.weight": torch.randn(rows, columns) * columns**-0.5, f"{name}.bias": 0.1 * torch.randn(rows)}


def norm(name: str, width: int) -> dict[str, torch.Tensor]:
    """A random norm."""
    return {f"{name}.weight": 1 + 0.2 * torch.randn(width), f"{name}.bias": 0.1 * torch.randn(width)}


def published_state(layers: int, width: int, heads: int, cross: tuple[int, ...], seed: int = 0) -> dict:
    """Names and shapes of a published RAG-ESM checkpoint, its dead position table included."""
    torch.manual_seed(seed)
    D = width
    esm = {"embeddings.word_embeddings.weight": torch.randn(33, D)}
    for i in range(layers):
        at = f"encoder.layer.{i}"
        for name, (a, b) in ESM_LINEAR.items():
            esm |= linear(f"{at}.{name}", a * D, b * D)
        esm |= norm(f"{at}.attention.LayerNorm", D) | norm(f"{at}.LayerNorm", D)
        esm[f"{at}.attention.self.rotary_embeddings.inv_freq"] = 1 / 10000 ** (
            torch.arange(0, D // heads, 2) / (D // heads)
        )
    esm |= norm("encoder.emb_layer_norm_after", D)
    esm |= {
        "contact_head.regression.weight": torch.randn(1, layers * heads),
        "contact_head.regression.bias": torch.randn(1),
    }
    state = {f"encoder.{name}": weight for name, weight in esm.items()}
    state |= {f"decoder.esm.{name}": weight.clone() for name, weight in esm.items()}
    state["decoder.esm.embeddings.position_embeddings.weight"] = torch.randn(1026, D)
    for i in cross:
        at = f"decoder.esm.encoder.layer.{i}"
        for name, (a, b) in CROSS_LINEAR.items():
            state |= linear(f"{at}.{name}", a * D, b * D)
        state |= norm(f"{at}.crossattention.LayerNorm", D) | norm(f"{at}.LayerNorm_crossattention", D)
        state[f"{at}.crossattention.weight_cross_attention"] = torch.tensor([0.5 + 0.1 * i])
        state[f"{at}.weight_crossattention_ffw"] = torch.tensor([-0.3])
    head = linear("decoder.lm_head.dense", D, D) | norm("decoder.lm_head.layer_norm", D)
    head["decoder.lm_head.decoder.weight"] = state["decoder.esm.embeddings.word_embeddings.weight"].clone()
    return state | head | {"decoder.lm_head.bias": torch.randn(33)}


@pytest.fixture(scope="session")
def state_maker():
    """`published_state`."""
    return published_state


@pytest.fixture(scope="session")
def demo_maker():
    """The embedded ESM2 with cross blocks; `opened` opens their gates, so that contexts change something."""
    from stateshift.rag_esm.model.checkpoint import new_rag_esm

    def make(layers: str = "all", opened: bool = True):
        trained = new_rag_esm(layers=layers)
        if opened:
            with torch.no_grad():
                for block in trained.network.cross.values():
                    block.gate.fill_(0.3)
                    block.mlp_gate.fill_(-0.2)
        trained.network.eval().requires_grad_(False)
        return trained

    return make


@pytest.fixture(scope="session")
def protein_maker():
    """A random protein of the twenty amino acids."""

    def make(length: int, seed: int = 0) -> str:
        return "".join(np.random.default_rng(seed).choice(list("LAGVSERTIDPKQNFYMHWC"), length))

    return make


def relative(sequence: str, changes: int, seed: int) -> str:
    """A protein with some residues replaced."""
    rng = np.random.default_rng(seed)
    letters = np.array(list(sequence))
    letters[rng.choice(len(letters), changes, replace=False)] = rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), changes)
    return "".join(letters)


@pytest.fixture(scope="session")
def family_maker(protein_maker):
    """Members of a family: a protein and its relatives, each with more replaced residues than the one before."""

    def make(seed: int, members: int = 5, length: int = 40) -> list[str]:
        first = protein_maker(length, seed)
        return [first, *(relative(first, 4 * i, 100 * seed + i) for i in range(1, members))]

    return make


@pytest.fixture
def families(tmp_path, family_maker):
    """A FASTA and classes of eight families of five, and a lonely protein."""
    records, classes = [], []
    for family in range(8):
        for number, sequence in enumerate(family_maker(family)):
            records.append(f">p{family}{number}\n{sequence}")
            classes.append(f"p{family}{number}\ta.1.1.{family}")
    (tmp_path / "p.fasta").write_text("\n".join([*records, ">alone\nMKVLAGWERTSPQHNCFY"]) + "\n")
    (tmp_path / "classes.tsv").write_text("\n".join([*classes, "alone\tb.1.1.1"]) + "\n")
    return tmp_path / "p.fasta", tmp_path / "classes.tsv"
