"""fair-esm's own network behind the same call as ours: the fallback engine, and what ours is tested against."""

from __future__ import annotations

import re
from collections.abc import Collection

import torch
from esm.model.esm2 import ESM2
from torch import nn

from stateshift.errors import StateshiftError
from stateshift.proteins.esm2.network import Output, Shape, frequencies

# our name → fair-esm's
NAMES = {
    r"embedding": "embed_tokens.weight",
    r"blocks\.(\d+)\.attention_norm\.": r"layers.\1.self_attn_layer_norm.",
    r"blocks\.(\d+)\.mlp_norm\.": r"layers.\1.final_layer_norm.",
    r"blocks\.(\d+)\.out\.": r"layers.\1.self_attn.out_proj.",
    r"blocks\.(\d+)\.([qkv])\.": r"layers.\1.self_attn.\2_proj.",
    r"blocks\.(\d+)\.up\.": r"layers.\1.fc1.",
    r"blocks\.(\d+)\.down\.": r"layers.\1.fc2.",
    r"norm\.": "emb_layer_norm_after.",
    r"head_dense\.": "lm_head.dense.",
    r"head_norm\.": "lm_head.layer_norm.",
    r"head_bias": "lm_head.bias",
    r"contact_": "contact_head.regression.",
}


class FairESM(nn.Module):
    """fair-esm's ``ESM2`` in single precision, with weights in our names.

    Raises
    ------
    StateshiftError
        The checkpoint lacks the language-model head, or its norms are not fair-esm's.
    """

    def __init__(self, shape: Shape, weights: dict[str, torch.Tensor]):
        super().__init__()
        if "head_bias" not in weights or shape.epsilon != 1e-5:
            raise StateshiftError(
                "fair-esm can't run this checkpoint: it lacks the language-model head or fair-esm's norms."
            )
        self.lacks = frozenset({"contact_weight", "contact_bias"} - set(weights))
        with torch.device("meta"):
            self.theirs = ESM2(shape.layers, shape.width, shape.heads, token_dropout=shape.token_dropout)
        given = {"frequencies": frequencies(shape.width // shape.heads)} | weights
        state = {name: weight.float() for name, weight in _their_state(given, shape.layers).items()}
        state["lm_head.weight"] = state["embed_tokens.weight"]
        for name, weight in self.theirs.contact_head.state_dict(prefix="contact_head.").items():
            state.setdefault(name, torch.zeros(weight.shape))
        self.theirs.load_state_dict(state, assign=True)

    def forward(
        self, tokens: torch.Tensor, layers: Collection[int] = (), logits: bool = False, contacts: bool = False
    ) -> Output:
        """As `stateshift.proteins.esm2.network.ESM2`; all layers and the head run, whatever is asked for."""
        if contacts and self.lacks:
            raise StateshiftError("The checkpoint holds no contact regression.")
        said = self.theirs(tokens, repr_layers=list(layers), return_contacts=contacts)
        return Output(said["representations"], said["logits"] if logits else None, said.get("contacts"))


def _their_state(weights: dict[str, torch.Tensor], layers: int) -> dict[str, torch.Tensor]:
    """Weights in fair-esm's names, the fused matrix taken apart."""
    state: dict[str, torch.Tensor] = {}
    for name, weight in weights.items():
        if name == "frequencies":
            state |= {f"layers.{layer}.self_attn.rot_emb.inv_freq": weight for layer in range(layers)}
            continue
        parts = zip("qkv", weight.chunk(3)) if ".qkv." in name else [("", weight)]
        for letter, part in parts:
            ours = name.replace("qkv", letter) if letter else name
            pattern, to = next((pattern, to) for pattern, to in NAMES.items() if re.match(pattern, ours))
            state[re.sub(f"^{pattern}", to, ours)] = part
    if "contact_head.regression.weight" in state:
        state["contact_head.regression.weight"] = state["contact_head.regression.weight"].reshape(1, -1)
        state["contact_head.regression.bias"] = state["contact_head.regression.bias"].reshape(1)
    return state
