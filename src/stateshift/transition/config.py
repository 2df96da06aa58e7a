"""The shape and the options of a transition model, checked before anything is built."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from stateshift.errors import StateshiftError, suggestion

FROM_DATA = ("genes", "features", "space", "batches", "every_gene")
"""Of a `TransitionConfig`, what follows from the data; the rest is a config's ``model`` group."""

WIDTHS = ("source_widths", "gene_decoder_widths")
"""Its lists."""


@dataclass(frozen=True)
class TransitionConfig:
    """Shape of a `TransitionModel`.

    Parameters
    ----------
    genes, features
        G and F, from the data; G is the width of an embedding where the cells are embeddings.
    hidden, layers, heads, ffn
        Of the set transformer; ``heads`` divides ``hidden``.
    set_size
        S that it is trained on; predictions use the same.
    encoder_layers, decoder_layers
        Linear layers of the encoders and of the output projection.
    basal_mlp
        Encode cells with an MLP; else with one linear layer.
    predict_residual
        Add the cell's own encoding to what the transformer hands to the output projection; with
        ``output_space`` ``all``, add the cell itself to what the projection gives.
    start
        ``effect``: the cells start from their control, shifted by a linear map of the features (fitted by
        ridge on pseudobulk effects, frozen), and the network adds to what is expressed then, from zero.
        ``backbone``: likewise, shifted by the effects of the best effect backbone, which come with the batch.
        ``none``: the network makes the whole output, as published.
    encoder
        How a perturbation is encoded, one of `stateshift.transition.encoders.ENCODERS`. ``table``: its features, as
        one vector, through an MLP. ``sources``: a token a feature source and one of the control cells, pooled.
        ``esm``: its name, to the ESM2 vectors that the model holds, through an MLP.
    source_widths
        Columns of each feature source, in their order, with the encoder ``sources``; empty for one source. Training
        takes them from the feature table.
    source_dropout
        Probability that training leaves a source of a set out.
    unfreeze_esm_layers
        With the encoder ``esm``, how many of ESM2's layers, from its last, are trained too.
    dropout
        In the encoders, the output projection and the heads.
    space
        What the cells are: ``expression`` or ``embedding``.
    every_gene
        Genes of the cells' files, from the data, where the cells are a part of them or an embedding; else 0.
    output_space
        What the network predicts. ``gene``: the genes that the cells have. ``embedding``: the cells' embedding.
        ``all``: every gene; of cells that have them all by a bottleneck of G/8 after the projection (with
        ``predict_residual``), of others by the projection itself, or by the gene decoder where there is one,
        after such a bottleneck. Default: ``gene``; of embeddings ``all`` where their files hold genes.
    relu
        Whether predicted cells end in a ReLU. Default: where they are expression.
    gene_decoder
        Whether a decoder gives every gene from the predicted cells; of embeddings also with ``gene``, without the
        bottleneck.
    gene_decoder_widths
        Its hidden widths.
    batches
        Batches that the model tells apart, from the data; 0 where no option needs them.
    batch_encoder
        Add an embedding of its batch to every cell.
    batch_token
        Prepend a learnt token to the set, from which the set's batch is predicted.
    confidence_token
        Append a learnt token to the set, from which the loss of the set is predicted.
    mask_attn
        Every cell attends to itself alone: what is predicted for it depends on no other cell of the set.
    """

    genes: int
    features: int
    hidden: int
    layers: int
    heads: int
    ffn: int
    set_size: int
    encoder_layers: int
    decoder_layers: int
    basal_mlp: bool = True
    predict_residual: bool = True
    start: str = "effect"
    encoder: str = "table"
    source_widths: tuple[int, ...] = ()
    source_dropout: float = 0.0
    unfreeze_esm_layers: int = 0
    dropout: float = 0.1
    space: str = "expression"
    output_space: str | None = None
    relu: bool | None = None
    every_gene: int = 0
    gene_decoder: bool = False
    gene_decoder_widths: tuple[int, ...] = (1024, 1024, 512)
    batches: int = 0
    batch_encoder: bool = False
    batch_token: bool = False
    confidence_token: bool = False
    mask_attn: bool = False

    def __post_init__(self) -> None:
        for name in ("hidden", "layers", "heads", "ffn", "set_size", "encoder_layers", "decoder_layers"):
            self._require_whole(name, getattr(self, name), 1)
        for name in ("unfreeze_esm_layers", "every_gene", "batches"):
            self._require_whole(name, getattr(self, name), 0)
        for name in WIDTHS:
            if not isinstance(getattr(self, name), list | tuple):
                raise StateshiftError(f"model.{name}={getattr(self, name)} has to be a list of widths.")
            for width in getattr(self, name):
                self._require_whole(name, width, 1)
        if self.hidden % self.heads:
            raise StateshiftError(f"model.heads={self.heads} does not divide model.hidden={self.hidden}.")
        from stateshift.transition.encoders import ENCODERS

        named = {
            "start": ("effect", "backbone", "none"),
            "encoder": tuple(ENCODERS),
            "space": ("expression", "embedding"),
        }
        for name, choices in named.items():
            self._require_one_of(name, choices)
        for name in ("dropout", "source_dropout"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
                raise StateshiftError(f"model.{name}={value} has to be a number from 0 to below 1.")
        switches = (
            "basal_mlp", "predict_residual", "gene_decoder", "batch_encoder", "batch_token", "confidence_token", "mask_attn",
        )  # fmt: skip
        for name in switches if self.relu is None else (*switches, "relu"):
            if not isinstance(getattr(self, name), bool):
                raise StateshiftError(f"model.{name}={getattr(self, name)} has to be true or false.")
        own = "gene" if self.space == "expression" else "all" if self.every_gene else "embedding"
        settled = {"output_space": self.output_space or own, **{name: tuple(getattr(self, name)) for name in WIDTHS}}
        for name, value in settled.items():
            object.__setattr__(self, name, value)
        if self.relu is None:
            object.__setattr__(self, "relu", self.space == "expression" or self.projects_every_gene)
        self._require_one_of("output_space", ("gene", "all", "embedding"))
        self._refuse_contradictions()

    @property
    def projects_every_gene(self) -> bool:
        """Whether the projection gives every gene of the files, and not what the cells are."""
        return self.output_space == "all" and self.every_gene > 0 and not self.gene_decoder

    @property
    def predicts_every_gene(self) -> bool:
        """Whether the network gives genes that its cells don't have, which it has to be shown in training."""
        return self.projects_every_gene or self.gene_decoder

    @property
    def width(self) -> int:
        """Of what the projection gives."""
        return self.every_gene if self.projects_every_gene else self.genes

    @property
    def bottleneck(self) -> bool:
        """Whether the output passes a bottleneck of G/8 after the projection."""
        return self.output_space == "all" and self.predict_residual and not self.projects_every_gene

    def settings(self) -> dict[str, Any]:
        """All but what follows from the data, as a config's ``model`` group holds it."""
        settings = {name: value for name, value in asdict(self).items() if name not in FROM_DATA}
        return {**settings, **{name: list(getattr(self, name)) for name in WIDTHS}}

    def _require_whole(self, name: str, value: object, least: int) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise StateshiftError(f"model.{name}={value} has to be a whole number of at least {least}.")

    def _require_one_of(self, name: str, choices: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value not in choices:
            raise StateshiftError(f"model.{name}={value}{suggestion(value, choices)}.")

    def _refuse_contradictions(self) -> None:
        """Options that would do nothing, or undo each other."""
        decoder, expression = self.gene_decoder, self.space == "expression"
        contradictions = [
            (
                expression and self.output_space == "embedding",
                "model.output_space=embedding: the cells are expression; name an embedding of the cells, or say gene.",
            ),
            (
                not expression and self.output_space == "gene" and not decoder,
                "model.output_space=gene: embeddings become genes by model.gene_decoder=true or model.output_space=all.",
            ),
            (
                not expression and self.output_space == "all" and not self.every_gene,
                "model.output_space=all: the embedding's files hold no genes to predict.",
            ),
            (
                decoder and self.output_space == ("gene" if expression else "embedding"),
                "model.gene_decoder=true would stand idle: the model gives what "
                f"model.output_space={self.output_space} asks for without it.",
            ),
            (
                decoder and not self.every_gene,
                "model.gene_decoder=true: the cells hold every gene already, and there is nothing to decode.",
            ),
            (
                self.output_space == "all" and not self.predict_residual and not self.predicts_every_gene,
                "model.output_space=all without model.predict_residual and without a gene decoder is the same as gene: "
                "say gene.",
            ),
            (
                self.bottleneck and self.genes < 8,
                f"model.output_space=all needs at least 8 genes for its bottleneck of G/8, and there are {self.genes}.",
            ),
            (
                (expression or self.projects_every_gene) and not self.relu,
                "model.relu=false would predict negative expression.",
            ),
            (
                not expression and not self.projects_every_gene and self.relu and self.start == "effect",
                "model.relu=true with model.start=effect would cut negative values off the embeddings it starts from.",
            ),
            (
                self.unfreeze_esm_layers and self.encoder != "esm",
                f"model.unfreeze_esm_layers={self.unfreeze_esm_layers}: model.encoder={self.encoder} holds no ESM2; say "
                "model.encoder=esm.",
            ),
            (
                self.start == "backbone" and not expression and not self.projects_every_gene,
                "model.start=backbone starts from effects on genes, and these cells are an embedding: say "
                "model.output_space=all without a gene decoder, or model.start=effect.",
            ),
            (
                self.start == "backbone" and decoder,
                "model.start=backbone gives every gene a start of its own, and model.gene_decoder=true would make them "
                "from the cells: choose one.",
            ),
            (
                bool(self.source_widths) and (self.encoder != "sources" or sum(self.source_widths) != self.features),
                f"model.source_widths={list(self.source_widths)}: model.encoder=sources reads them, and they have to sum to "
                f"the {self.features} features.",
            ),
            (
                self.source_dropout > 0 and self.encoder != "sources",
                "model.source_dropout is of model.encoder=sources.",
            ),
            (
                self.batch_encoder and self.batch_token,
                "model.batch_encoder and model.batch_token together: a token learns nothing of a batch that is given "
                "to every cell; choose one.",
            ),
            (
                (self.batch_encoder or self.batch_token) and not self.batches,
                f"model.{'batch_encoder' if self.batch_encoder else 'batch_token'}=true: the data name no batches.",
            ),
            (
                self.mask_attn and (self.batch_token or self.confidence_token),
                f"model.mask_attn=true: model.{'batch_token' if self.batch_token else 'confidence_token'} would see no "
                "cell; switch one of them off.",
            ),
            (
                self.confidence_token and self.hidden < 4,
                f"model.confidence_token needs model.hidden of at least 4, not {self.hidden}.",
            ),
        ]
        for holds, sentence in contradictions:
            if holds:
                raise StateshiftError(sentence)
