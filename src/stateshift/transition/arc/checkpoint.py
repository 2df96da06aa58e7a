"""arc-state's checkpoints as our model: dims and options read from its weights and hyper-parameters.

arc-state keeps weights that nothing reads: a frozen embedding of 32,000 words, a gene decoder beside outputs that
are genes already, a bottleneck without a residual, queries and keys of cells that see only themselves. They are
dropped; what our model can't do is refused by name.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from stateshift.errors import InputProblems, StateshiftError, some
from stateshift.transition.config import TransitionConfig
from stateshift.transition.model import TransitionModel

logger = logging.getLogger(__name__)

RENAMED = {
    "basal_encoder.weight": "basal_encoder.0.weight",
    "basal_encoder.bias": "basal_encoder.0.bias",
    "batch_token": "batch_token.token",
    "batch_classifier.0.": "batch_token.classifier.",
    "confidence_token.confidence_token": "confidence_token.token",
    "confidence_token.confidence_projection.": "confidence_token.head.",
    "final_down_then_up.": "bottleneck.",
    "gene_decoder.decoder.": "gene_decoder.",
}
"""Their names and ours, where they differ."""


def arc_model(weights: Mapping[str, Tensor], options: Mapping[str, Any], where: str) -> TransitionModel:
    """Our model with an arc-state model's weights, in evaluation mode.

    Parameters
    ----------
    weights
        Its ``state_dict``.
    options
        Its hyper-parameters: ``embed_key``, ``output_space``, ``cell_set_len``, ``transformer_backbone_kwargs``, ….
    where
        The file, for messages.

    Raises
    ------
    StateshiftError
        It isn't a state-transition model, or the weights don't fit together.
    InputProblems
        Everything in it that our model can't do.
    """
    if "pert_encoder.0.weight" not in weights or "transformer_backbone.norm.weight" not in weights:
        if any(name.startswith("model.pert_encoder.") for name in weights):
            raise StateshiftError(
                f"{where} is a checkpoint of stateshift away from its run: name it where it was, in RUN/checkpoints/."
            )
        lora = (
            " (a LoRA-wrapped backbone: merge the adapter into it first)" if any("lora_" in n for n in weights) else ""
        )
        raise StateshiftError(
            f"{where} is no checkpoint of arc-state's state-transition model{lora}: {some(weights, 3)}."
        )
    problems = unsupported(weights, options)
    if problems:
        raise InputProblems(where, problems)
    config = arc_config(weights, options)
    model = TransitionModel(config)
    ours = model.state_dict()
    renamed = {_our_name(name): value for name, value in weights.items()}
    if absent := sorted(set(ours) - set(renamed)):
        raise StateshiftError(f"{where} lacks weights that its options ask for: {some(absent)}.")
    dropped = sorted(set(renamed) - set(ours))
    strange = [name for name in dropped if not _idle(name, config)]
    if strange:
        raise StateshiftError(f"{where} holds weights of a part that our model does not have: {some(strange)}.")
    try:
        model.load_state_dict({name: renamed[name].reshape(_token_shape(name, renamed[name])) for name in ours})
    except RuntimeError as error:
        raise StateshiftError(f"{where}: weights don't fit together: {str(error).splitlines()[-1].strip()}") from error
    if dropped:
        logger.info("%s: left out, nothing reads them: %s", where, some(sorted({n.split(".")[0] for n in dropped})))
    return model.eval()


def arc_config(weights: Mapping[str, Tensor], options: Mapping[str, Any]) -> TransitionConfig:
    """Dims from the weights; what leaves no trace there from the options."""
    hidden, basal = weights["transformer_backbone.norm.weight"].shape[0], "basal_encoder.weight"
    basal_mlp = basal not in weights
    expression = options.get("embed_key") in (None, "X_hvg")
    decoder = _linear_widths(weights, "gene_decoder.decoder.")
    decodes = bool(decoder) and _decodes(options)
    output_space, residual = options.get("output_space", "gene"), options.get("predict_residual", True)
    if not decodes and (not expression or output_space == "embedding" or not residual):
        output_space = None
    batch_encoder, batch_token = "batch_encoder.weight" in weights, "batch_token" in weights
    batches = weights["batch_encoder.weight" if batch_encoder else "batch_classifier.0.weight"].shape[0] if (
        batch_encoder or batch_token
    ) else 0  # fmt: skip
    return TransitionConfig(
        genes=weights["basal_encoder.0.weight" if basal_mlp else basal].shape[1],
        features=weights["pert_encoder.0.weight"].shape[1],
        hidden=hidden,
        layers=sum(name.endswith("self_attn.o_proj.weight") for name in weights),
        heads=options["transformer_backbone_kwargs"]["num_attention_heads"],
        ffn=weights["transformer_backbone.layers.0.mlp.gate_proj.weight"].shape[0],
        set_size=options["cell_set_len"],
        encoder_layers=len(_linear_widths(weights, "pert_encoder.")),
        decoder_layers=len(_linear_widths(weights, "project_out.")),
        basal_mlp=basal_mlp,
        predict_residual=residual,
        start="none",
        dropout=options.get("dropout", 0.1),
        space="expression" if expression else "embedding",
        output_space=output_space,
        relu=expression or not decoder,
        every_gene=decoder[-1] if decodes else 0,
        gene_decoder=decodes,
        gene_decoder_widths=tuple(decoder[:-1]),
        batches=batches,
        batch_encoder=batch_encoder,
        batch_token=batch_token,
        confidence_token="confidence_token.confidence_token" in weights,
        mask_attn=bool(options.get("mask_attn", False)),
    )


def unsupported(weights: Mapping[str, Tensor], options: Mapping[str, Any]) -> list[str]:
    """What a checkpoint asks for that our model can't do, or does not say; one sentence each."""
    backbone = options.get("transformer_backbone_kwargs") or {}
    heads, hidden = backbone.get("num_attention_heads"), weights["transformer_backbone.norm.weight"].shape[0]
    key, activation = options.get("transformer_backbone_key", "llama"), options.get("activation", "gelu")
    expression = options.get("embed_key") in (None, "X_hvg")
    bottleneck = options.get("output_space") == "all" and options.get("predict_residual", True)
    without_decoder = not any(name.startswith("gene_decoder.") for name in weights)
    checks = [
        (heads is None, "its hyper-parameters don't say num_attention_heads: put its config.yaml beside it."),
        ("cell_set_len" not in options, "its hyper-parameters don't say cell_set_len: put its config.yaml beside it."),
        (key != "llama", f"backbone `{key}`: only llama is read."),
        (not backbone.get("bidirectional_attention"), "a causal backbone with positions: only bidirectional ones are."),
        (backbone.get("num_key_value_heads") not in (None, heads), "grouped key and value heads."),
        (heads and backbone.get("head_dim", hidden // heads) * heads != hidden, "heads wider than the hidden width."),
        (backbone.get("rms_norm_eps", 1e-6) != 1e-6, "a norm with another eps than 1e-6."),
        (backbone.get("hidden_act", "silu") != "silu", f"activation `{backbone.get('hidden_act')}` in the backbone."),
        (activation.lower() != "gelu", f"activation `{activation}` in the encoders."),
        (any("lora_" in name for name in weights), "LoRA adapters: merge them into the backbone first."),
        (any(name.startswith("gene_decoder.blocks.") for name in weights), "a residual gene decoder."),
        (options.get("finetune_vci_decoder"), "a fine-tuned SE gene decoder (finetune_vci_decoder)."),
        (options.get("nb_decoder"), "a negative binomial gene decoder (nb_decoder)."),
        (not expression and bottleneck and without_decoder, "output_space=all on embeddings without a gene decoder."),
    ]
    return [sentence for holds, sentence in checks if holds]


def _decodes(options: Mapping[str, Any]) -> bool:
    """Whether the gene decoder is trained and read there, rather than built alone."""
    key, output_space = options.get("embed_key"), options.get("output_space", "gene")
    return key is not None and (output_space == "all" or (output_space == "gene" and key != "X_hvg"))


def _linear_widths(weights: Mapping[str, Tensor], prefix: str) -> list[int]:
    """Output widths of the linear layers of a stack."""
    names = [n for n, w in weights.items() if n.startswith(prefix) and n.endswith(".weight") and w.dim() == 2]
    return [weights[name].shape[0] for name in sorted(names, key=lambda n: int(n.split(".")[-2]))]


def _our_name(name: str) -> str:
    for theirs, ours in RENAMED.items():
        if name == theirs or (theirs.endswith(".") and name.startswith(theirs)):
            return ours + name.removeprefix(theirs)
    return name


def _token_shape(name: str, value: Tensor) -> tuple[int, ...]:
    """A token's shape without the axes of batch and set; any other weight's as it is."""
    return value.shape[-1:] if name.endswith("_token.token") else value.shape


def _idle(name: str, config: TransitionConfig) -> bool:
    """Whether arc-state keeps this weight without reading it."""
    unread = ["transformer_backbone.embed_tokens."]
    if not config.gene_decoder:
        unread.append("gene_decoder.")
    if not config.bottleneck:
        unread.append("bottleneck.")
    alone = config.mask_attn and name.endswith(("self_attn.q_proj.weight", "self_attn.k_proj.weight"))
    return alone or name.startswith(tuple(unread))
