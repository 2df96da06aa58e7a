"""Gene → vector: the table that every feature source writes and every model reads."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stateshift.errors import InputProblems, StateshiftError, first_line, some, suggestion, with_hidden_letters
from stateshift.files import read_json, read_tensors, written_beside
from stateshift.genes.names import ENSEMBL
from stateshift.genes.spelling import folded

TEXT = {".csv": ",", ".tsv": "\t"}
"""Suffixes of text tables and what separates their columns."""
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
BY_SOURCE = (".npz", ".h5ad")
"""Suffixes that the source `table` reads alone."""


def genes_of(perturbation: str) -> list[str]:
    """The genes a perturbation names: ``A+B`` is a double.

    Raises
    ------
    StateshiftError
        It names no gene, an empty one, or one twice.

    Examples
    --------
    >>> genes_of("KLF1+MAP2K6")
    ['KLF1', 'MAP2K6']
    >>> genes_of("TP53")
    ['TP53']
    """
    genes = [gene.strip() for gene in perturbation.split("+")]
    if not all(genes):
        raise StateshiftError(f"The perturbation `{perturbation}` names no gene: write A, or A+B for a double.")
    if len(set(genes)) < len(genes):
        raise StateshiftError(f"The perturbation `{perturbation}` names a gene twice.")
    return genes


@dataclass
class FeatureTable:
    """One vector a gene, with where the vectors came from.

    Parameters
    ----------
    genes
        Symbols, each once.
    vectors
        Array (P, F), float32, finite, one row a gene.
    provenance
        Written as the JSON beside the file: source, model, checksum, pooling, date,
        ``missing`` (gene → why it has no vector), and whatever a source adds.

    Examples
    --------
    >>> table = FeatureTable(["A", "B"], np.eye(2, dtype="float32"), {"source": "onehot"})
    >>> table.matrix(["A+B", "B"])
    array([[1., 1.],
           [0., 1.]], dtype=float32)
    """

    genes: list[str]
    vectors: np.ndarray
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.genes = [str(g) for g in self.genes]
        self.vectors = np.ascontiguousarray(self.vectors, dtype=np.float32)
        if self.vectors.ndim != 2 or len(self.genes) != len(self.vectors):
            raise StateshiftError(
                f"A feature table needs one row a gene: {len(self.genes)} genes, vectors {self.vectors.shape}."
            )
        self._row = {gene: i for i, gene in enumerate(self.genes)}
        if len(self._row) != len(self.genes):
            twice = sorted(gene for gene, n in Counter(self.genes).items() if n > 1)
            raise StateshiftError(f"Genes occur twice in the feature table: {some(twice)}.")
        bad = [g for g, ok in zip(self.genes, np.isfinite(self.vectors).all(axis=1)) if not ok]
        if bad:
            raise StateshiftError(f"The feature table holds NaN or infinity for {some(bad)}.")

    @property
    def width(self) -> int:
        """F, the length of each vector."""
        return self.vectors.shape[1]

    def __len__(self) -> int:
        return len(self.genes)

    def __contains__(self, gene: str) -> bool:
        return gene in self._row

    def missing(self, perturbations: Iterable[str]) -> list[str]:
        """Genes named by the perturbations that have no vector here, sorted."""
        return sorted({g for p in perturbations for g in genes_of(p) if g not in self._row})

    def matrix(self, perturbations: Sequence[str]) -> np.ndarray:
        """Vectors of perturbations, (P, F) float32; a double's is the sum of its genes'.

        Raises
        ------
        StateshiftError
            A gene has no vector: it is never silently zero.
        """
        missing = self.missing(perturbations)
        if missing:
            hint = suggestion(missing[0], self.genes) if len(missing) == 1 else ""
            raise StateshiftError(
                f"No feature vector for {some(missing)}{hint}. Make a table that holds them "
                "(create_esm_pert_features), or choose a policy with --missing."
            )
        rows = np.zeros((len(perturbations), self.width), dtype=np.float32)
        for i, perturbation in enumerate(perturbations):
            for gene in genes_of(perturbation):
                rows[i] += self.vectors[self._row[gene]]
        return rows

    def without_filled(self) -> FeatureTable:
        """The table with zeros for genes whose vectors a policy filled in when it was made: they know nothing."""
        filled = np.isin(self.genes, list(self.provenance.get("missing_policy", {})))
        return FeatureTable(self.genes, np.where(filled[:, None], 0, self.vectors), self.provenance)

    def subset(self, genes: Iterable[str]) -> FeatureTable:
        """The table of these genes alone, in the order given; genes without a vector are an error."""
        genes = list(dict.fromkeys(genes))
        missing = [g for g in genes if g not in self._row]
        if missing:
            raise StateshiftError(f"No feature vector for {some(missing)}.")
        rows = [self._row[g] for g in genes]
        return FeatureTable(genes, self.vectors[rows], dict(self.provenance))

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write ``path`` (dict symbol → float32 tensor, as cell-load reads it) and ``path.json``."""
        import torch

        path = Path(path)
        if path.suffix.lower() in TEXT:
            raise StateshiftError(f"{path}: a feature table is written as .pt, name {path.with_suffix('.pt').name}.")
        vectors = torch.from_numpy(self.vectors.copy())
        # into a handle: by a name, torch keeps that in the file, and equal tables would have other checksums
        with written_beside(path, overwrite) as part, part.open("wb") as handle:
            torch.save({gene: vectors[i].clone() for i, gene in enumerate(self.genes)}, handle)
        described = {"genes": len(self.genes), "width": self.width, **self.provenance}
        with written_beside(path.with_name(path.name + ".json"), overwrite=True) as part:
            part.write_text(json.dumps(described, indent=2, default=str) + "\n")
        return path

    @classmethod
    def from_mapping(
        cls, vectors: Mapping[str, Any], provenance: dict[str, Any], where: str = "the table"
    ) -> FeatureTable:
        """A table from symbol → vector; every vector is checked for its width.

        Raises
        ------
        StateshiftError
            It is empty, or vectors differ in width; the first gene that differs is named.
        """
        if not vectors:
            raise StateshiftError(f"{where} holds no vectors.")
        if hidden := with_hidden_letters(map(str, vectors)):
            raise StateshiftError(f"{where} names genes with letters that don't show: {some(hidden, 3)}. Rename them.")
        arrays = {str(gene): np.asarray(vector, dtype=np.float32) for gene, vector in vectors.items()}
        flat = [gene for gene, array in arrays.items() if array.size > max(array.shape, default=1)]
        if flat:
            raise StateshiftError(
                f"{where}: `{flat[0]}` has an array {arrays[flat[0]].shape} where one vector a gene is needed; rows of residues "
                "are pooled first."
            )
        rows = {gene: array.reshape(-1) for gene, array in arrays.items()}
        first, width = next((g, len(v)) for g, v in rows.items())
        for gene, row in rows.items():
            if len(row) != width:
                raise StateshiftError(
                    f"{where}: `{gene}` has {len(row)} values and `{first}` has {width}: one width is needed."
                )
        bad = [gene for gene, row in rows.items() if not np.isfinite(row).all()]
        if bad:
            raise StateshiftError(f"{where} holds NaN or infinity for {some(bad)}: leave these genes out.")
        return cls(list(rows), np.stack(list(rows.values())), provenance)

    @classmethod
    def load(cls, path: str | Path) -> FeatureTable:
        """Read a table, ours or cell-load's ``.pt``, without executing pickled code, or a ``.csv``/``.tsv``.

        A text table has a header, the gene in its first column and numbers in the others.

        Raises
        ------
        StateshiftError
            The file is missing, is not a dict of symbol → 1-D tensor, or holds vectors of two widths.
        InputProblems
            Columns of a text table that aren't numbers, genes named twice, values missing or infinite.
        """
        path = Path(path)
        if not path.is_file():
            raise StateshiftError(f"{path}: there is no such feature table.")
        if path.suffix.lower() in TEXT:
            return _read_text_table(path)
        if path.suffix.lower() in BY_SOURCE:
            raise StateshiftError(
                f'{path} is read by the source `table`: in an experiment  source = "table"  and  lookup = "{path.name}"  in '
                f"place of  table = …; else make a .pt of it (stateshift features create --source table --lookup {path.name})."
            )
        import torch

        try:
            content = read_tensors(path)
        except Exception as error:
            raise StateshiftError(
                f"{path} is not a feature table that can be read safely: it is damaged, or holds Python objects other "
                f"than a dict gene symbol → tensor, which are not executed. {_WAYS}"
            ) from error
        if not isinstance(content, dict) or not all(
            isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in content.items()
        ):
            raise StateshiftError(f"{path} is not a dict gene symbol → tensor, it holds {_kinds(content)}. {_WAYS}")
        beside = path.with_name(path.name + ".json")
        way_out = "Take it away, or make the table again."
        provenance = read_json(beside, way_out) if beside.is_file() else {"source": "table", "file": path.name}
        provenance = {k: v for k, v in provenance.items() if k not in ("genes", "width")}
        return cls.from_mapping({g: v.float().numpy() for g, v in content.items()}, provenance, str(path))


_WAYS = (
    "A table is a .csv or .tsv with the gene in its first column, or a .pt as torch.save(dict(zip(genes, vectors)), …) "
    "writes it, vectors being a tensor (genes, width)."
)


def _kinds(content: object) -> str:
    """What a file holds in place of a table: the first few of its keys and what stands under them."""
    if not isinstance(content, dict):
        return f"a {type(content).__name__}"
    shapes = {key: f" {tuple(value.shape)}" for key, value in content.items() if hasattr(value, "shape")}
    return some([f"`{key}` ({type(value).__name__}{shapes.get(key, '')})" for key, value in content.items()], 3)


def named_otherwise(genes: Iterable[str], names: Iterable[str]) -> str:
    """A half-sentence on genes that a table lacks and may name otherwise: in another spelling, or as Ensembl ids.

    Examples
    --------
    >>> named_otherwise(["KLF1", "GATA1"], ["klf1", "TP53"])
    '; the table spells KLF1 as `klf1`'
    >>> named_otherwise(["KLF1"], ["TP53"])
    ''
    """
    names = list(names)
    by_spelling = {folded(name): name for name in reversed(names)}
    slips = [f"{gene} as `{by_spelling[folded(gene)]}`" for gene in genes if folded(gene) in by_spelling]
    if slips:
        return f"; the table spells {some(slips, 4)}"
    ids = [name for name in names if ENSEMBL.match(name)]
    return f"; the table names {len(ids):,} genes by Ensembl ids, as {ids[0]}" if ids else ""


def _read_text_table(path: Path) -> FeatureTable:
    """A ``.csv`` or ``.tsv`` with a header and the gene in the first column."""
    import pandas as pd

    separator = TEXT[path.suffix.lower()]
    try:
        with path.open(encoding="utf-8-sig") as handle:
            _refuse_another_separator(handle.readline(), separator, path)
        frame = pd.read_csv(path, sep=separator, index_col=0, keep_default_na=False)
    except StateshiftError:
        raise
    except (ValueError, OSError) as error:
        raise StateshiftError(f"{path} can't be read as a table: {first_line(error)}") from error
    if frame.empty:
        raise StateshiftError(f"{path} holds no vectors: a gene in the first column, numbers in the others.")
    # a header may number its columns, over a corner left empty; a gene's own line has its name there
    named = frame.index.name is not None
    if named and all(re.fullmatch(r"-?\d*\.\d+(e-?\d+)?", str(column)) for column in frame.columns):
        raise StateshiftError(
            f"{path} has numbers in its first line, where names of columns belong: put a header there."
        )
    frame.index = frame.index.astype(str).str.strip()
    numbers = frame.apply(pd.to_numeric, errors="coerce")
    finite = np.isfinite(numbers.to_numpy(dtype=float))
    problems = [
        f"column `{column}` holds no finite number for {(~ok).sum():,} of {len(ok):,} genes "
        f"({some([f'{gene}: {_held(value)}' for gene, value in frame[column][~ok].items()], 3)}): leave the column or these "
        "genes out."
        for column, ok in zip(frame.columns, finite.T)
        if not ok.all()
    ]
    twice = frame.index[frame.index.duplicated()].unique()
    if len(twice):
        problems.append(f"genes occur twice: {some(twice)}.")
    if "" in frame.index:
        problems.append("a row has no gene in the first column.")
    if hidden := with_hidden_letters(filter(None, frame.index)):
        problems.append(f"genes hold letters that don't show: {some(hidden, 3)}.")
    if problems:
        raise InputProblems(str(path), problems)
    return FeatureTable(list(frame.index), numbers.to_numpy(np.float32), {"source": "table", "file": path.name})


def _refuse_another_separator(header: str, separator: str, path: Path) -> None:
    other = next((mark for mark in SEPARATORS if mark in header), separator)
    if separator not in header and other != separator:
        raise StateshiftError(
            f"{path}: {SEPARATORS[other]} part the columns of its header, where a {path.suffix.lower()} has "
            f"{SEPARATORS[separator]}: write it with these, and numbers with a decimal point."
        )


def _held(value: object) -> str:
    return f"`{value}`" if str(value).strip() else "nothing"
