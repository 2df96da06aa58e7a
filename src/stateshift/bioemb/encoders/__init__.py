"""From sequences or molecules to a feature table by an encoder that stays as it is."""

from __future__ import annotations

import logging
from pathlib import Path

from stateshift.bioemb.encoders.texts import Texts, read_molecules, read_texts, told
from stateshift.bioemb.settings import Settings
from stateshift.errors import StateshiftError
from stateshift.feature_table import FeatureTable
from stateshift.files import sha256

__all__ = ["Texts", "input_table", "load_encoder", "read_molecules", "read_texts", "table_by"]

logger = logging.getLogger(__name__)


def load_encoder(kind: str, settings: Settings, *, trainable: bool = False, trust_remote_code: bool = False):
    """The encoder of proteins or molecules that the settings name."""
    if kind == "protein":
        from stateshift.bioemb.encoders.esm2 import Esm2Encoder

        return Esm2Encoder(settings.encoder, trainable)
    from stateshift.bioemb.encoders.molecules import MoleculeEncoder

    return MoleculeEncoder(settings.encoder, trainable, trust_remote_code)


def table_by(encoder, texts: Texts) -> FeatureTable:
    """The vectors of texts, in their order, with what made them."""
    vectors = dict(encoder.embed(texts.of))
    provenance = {"source": texts.kind, "file": Path(texts.where).name, "file_sha256": sha256(texts.where)}
    return FeatureTable.from_mapping({name: vectors[name] for name in texts.of}, provenance | encoder.provenance)


def input_table(settings: Settings, trust_remote_code: bool = False) -> FeatureTable:
    """The table that a config names, or that its encoder makes.

    Raises
    ------
    StateshiftError
        Not exactly one of ``data.table``, ``data.fasta`` and ``data.molecules`` is named, or it can't be read.
    """
    data = settings.data
    if sum(source is not None for source in (data.table, data.fasta, data.molecules)) != 1:
        raise StateshiftError("Name what to learn from by one of data.table, data.fasta and data.molecules.")
    if data.table is not None:
        table = FeatureTable.load(data.table)
        table.provenance.setdefault("file", Path(data.table).name)
        return table
    texts = read_texts(data)
    logger.info("%s.", told(texts))
    return table_by(load_encoder(texts.kind, settings, trust_remote_code=trust_remote_code), texts)
