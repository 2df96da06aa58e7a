"""Random ESM2 models in fair-esm's layout, and random proteins."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
from esm.model.esm2 import ESM2


def fair_esm_content(layers: int, width: int, heads: int, seed: int = 0, regression: bool = False) -> dict:
    """A checkpoint's content as fair-esm publishes it, every weight random, norms and biases included."""
    torch.manual_seed(seed)
    with torch.device("meta"):
        shapes = {name: weight.shape for name, weight in ESM2(layers, width, heads).state_dict().items()}
    model = {}
    for name, shape in shapes.items():
        if name.endswith("inv_freq"):
            model[name] = 1.0 / 10000 ** (torch.arange(0, width // heads, 2).float() / (width // heads))
        elif "norm" in name and name.endswith("weight"):
            model[name] = 1 + 0.2 * torch.randn(shape)
        elif name.startswith("embed_tokens"):
            model[name] = torch.randn(shape)
        elif len(shape) == 2:
            spread = (3 / shape[1]) ** 0.5
            model[name] = torch.empty(shape).uniform_(-spread, spread)
        else:
            model[name] = 0.1 * torch.randn(shape)
    model["lm_head.weight"] = model["embed_tokens.weight"]
    if not regression:
        model = {name: weight for name, weight in model.items() if not name.startswith("contact_head")}
    prefixed = {
        ("encoder." if name.startswith("lm_head") else "encoder.sentence_encoder.") + name: weight
        for name, weight in model.items()
    }
    told = argparse.Namespace(
        encoder_layers=layers, encoder_embed_dim=width, encoder_attention_heads=heads, token_dropout=True
    )
    return {"cfg": {"model": told}, "model": prefixed}


@pytest.fixture(scope="session")
def content_maker():
    """`fair_esm_content`."""
    return fair_esm_content


@pytest.fixture
def checkpoint_maker(tmp_path):
    """Write a random checkpoint; its path."""

    def make(layers: int = 2, width: int = 32, heads: int = 4, name: str = "random.pt", **options) -> Path:
        torch.save(fair_esm_content(layers, width, heads, **options), tmp_path / name)
        return tmp_path / name

    return make


@pytest.fixture(scope="session")
def protein_maker():
    """A random protein of the twenty amino acids."""

    def make(length: int, seed: int = 0) -> str:
        return "".join(np.random.default_rng(seed).choice(list("LAGVSERTIDPKQNFYMHWC"), length))

    return make
