"""Nearest vectors by cosine: FAISS, exact below 10,000 vectors and a graph (HNSW) from there, readable metadata."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stateshift.errors import StateshiftError, some
from stateshift.files import written_beside

if TYPE_CHECKING:
    import faiss

logger = logging.getLogger(__name__)

EXACT_BELOW = 10_000
LINKS = 32
EF_CONSTRUCTION = 80
RECALL = 0.95
RECALL_QUERIES = 100
MOST_EF = 8192
BLOCK = 65_536
ABOUT = "about.json"


class Hit(NamedTuple):
    """One neighbour: its name and its cosine with the query."""

    name: str
    score: float


class VectorIndex:
    """Named vectors that can be searched, added to and replaced.

    Vectors are kept normalised. A replaced vector stays in the FAISS index, marked as dead, so that an
    update never rebuilds; `stats` says how many there are.

    Parameters
    ----------
    width
        Of the vectors.
    about
        What they are, kept in ``about.json``: model, checksum, anything JSON holds.
    """

    def __init__(self, width: int, about: Mapping[str, Any] | None = None):
        self.width, self.about = int(width), dict(about or {})
        self.names: list[str] = []
        self.row_of: dict[str, int] = {}
        self.metadata: dict[str, dict[str, Any]] = {}
        self.ef = 64
        self._faiss = _module().IndexFlatIP(self.width)

    def __len__(self) -> int:
        return len(self.row_of)

    @property
    def is_exact(self) -> bool:
        """Whether every vector is compared with every query."""
        return not hasattr(self._faiss, "hnsw")

    def add(
        self,
        vectors: Mapping[str, np.ndarray],
        metadata: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> tuple[int, int]:
        """Add vectors, those of known names in place of the old ones.

        Parameters
        ----------
        vectors
            Name → (width,).
        metadata
            Name → column → value, for some or all of them.

        Returns
        -------
        tuple of int
            How many are new and how many were replaced.

        Raises
        ------
        StateshiftError
            A vector is of another width, zero, or no numbers; nothing is added then.
        """
        if not vectors:
            return 0, 0
        names = [str(name) for name in vectors]
        rows = self._normalised(names, list(vectors.values()))
        replaced = sum(name in self.row_of for name in names)
        grown = len(self.names) + len(rows)
        if self.is_exact and grown >= EXACT_BELOW:
            self._to_graph()
        for start in range(0, len(rows), BLOCK):
            self._faiss.add(rows[start : start + BLOCK])
        for name in names:
            self.row_of[name] = len(self.names)
            self.names.append(name)
        for name, values in (metadata or {}).items():
            self.metadata[str(name)] = dict(values)
        if not self.is_exact and grown > 1.5 * self.about.get("tuned_at", 0):
            self._tune()
        return len(names) - replaced, replaced

    def search(self, queries: np.ndarray, top_k: int = 100, threshold: float = -1.0) -> list[list[Hit]]:
        """The nearest vectors of each query, best first.

        Parameters
        ----------
        queries
            (Q, width).
        top_k
            Most hits a query.
        threshold
            Hits of a lower cosine are left out.
        """
        if top_k < 1:
            raise StateshiftError(f"--top-k must be 1 or more, not {top_k}.")
        rows = self._normalised([f"query {i + 1}" for i in range(len(queries))], list(queries))
        if not len(self) or not len(rows):
            return [[] for _ in rows]
        scores, found = self._faiss.search(rows, min(top_k, len(self)), params=self._parameters(top_k))
        return [
            [Hit(self.names[j], float(s)) for s, j in zip(line, places) if j >= 0 and s >= threshold]
            for line, places in zip(scores, found)
        ]

    def vectors(self, names: Sequence[str] | None = None) -> np.ndarray:
        """Normalised vectors (N, width) of some names, or of all in the order of `row_of`."""
        rows = list(self.row_of.values()) if names is None else [self.row_of[name] for name in names]
        return (
            np.stack([self._faiss.reconstruct(row) for row in rows]) if rows else np.zeros((0, self.width), np.float32)
        )

    def stats(self) -> dict[str, Any]:
        """Numbers about the index."""
        return {
            "vectors": len(self),
            "width": self.width,
            "kind": "exact" if self.is_exact else f"HNSW, {LINKS} links, efSearch {self.ef}",
            "replaced": len(self.names) - len(self),
            "megabytes": round(len(self.names) * (self.width * 4 + (0 if self.is_exact else LINKS * 8)) / 2**20, 1),
            **{k: v for k, v in self.about.items() if k != "tuned_at"},
        }

    def save(self, folder: str | Path) -> Path:
        """Write the index; an older one there is replaced only when the new one lies whole beside it."""
        import pandas as pd

        folder = Path(folder)
        before = json.loads((folder / ABOUT).read_text()) if (folder / ABOUT).is_file() else {}
        number = before.get("generation", 0) + 1
        with written_beside(folder / f"vectors.{number}.faiss", overwrite=True) as part:
            _module().write_index(self._faiss, str(part))
        entries = pd.DataFrame({"name": self.names})
        entries["alive"] = [self.row_of[name] == row for row, name in enumerate(self.names)]
        extra = pd.DataFrame([self.metadata.get(name, {}) for name in self.names], index=entries.index)
        with written_beside(folder / f"entries.{number}.parquet", overwrite=True) as part:
            pd.concat([entries, extra.drop(columns=["name", "alive"], errors="ignore")], axis=1).to_parquet(part)
        told = {"generation": number, "width": self.width, "ef": self.ef, "about": self.about}
        with written_beside(folder / ABOUT, overwrite=True) as part:
            part.write_text(json.dumps(told, indent=2, default=str) + "\n")
        for old in folder.glob("*.*"):
            if old.suffix in (".faiss", ".parquet") and f".{number}." not in old.name:
                old.unlink()
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> VectorIndex:
        """Read an index; its files are numbers, a table and JSON, nothing is unpickled.

        Raises
        ------
        StateshiftError
            There is none, or its files are damaged or don't belong together.
        """
        import pandas as pd

        folder = Path(folder)
        if not (folder / ABOUT).is_file():
            raise StateshiftError(f"{folder} is no index: it lacks {ABOUT}.")
        faiss = _module()
        try:
            told = json.loads((folder / ABOUT).read_text())
            index = cls(told["width"], told["about"])
            index._faiss = faiss.read_index(str(folder / f"vectors.{told['generation']}.faiss"))
            entries = pd.read_parquet(folder / f"entries.{told['generation']}.parquet")
            index.ef = int(told["ef"])
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise StateshiftError(f"{folder} is a damaged index ({' '.join(str(error).split())[:120]}).") from error
        if index._faiss.ntotal != len(entries) or index._faiss.d != index.width:
            raise StateshiftError(f"{folder} is a damaged index: its vectors and names don't belong together.")
        index.names = entries["name"].astype(str).tolist()
        index.row_of = {name: row for row, name in enumerate(index.names) if entries["alive"].iat[row]}
        columns = [c for c in entries if c not in ("name", "alive")]
        if columns:
            values = entries[columns].astype(object).where(entries[columns].notna(), None).to_dict("records")
            index.metadata = {name: values[row] for name, row in index.row_of.items()}
        return index

    def _normalised(self, names: Sequence[str], vectors: Sequence[np.ndarray]) -> np.ndarray:
        other = [name for name, vector in zip(names, vectors) if np.shape(vector) != (self.width,)]
        if other:
            shapes = some(sorted({str(np.size(v)) for v in vectors if np.shape(v) != (self.width,)}))
            raise StateshiftError(
                f"The index holds vectors {self.width} wide, {some(other, 3)} are {shapes} wide: they come from another model."
            )
        rows = np.ascontiguousarray(vectors, dtype=np.float32).reshape(len(names), self.width)
        length = np.linalg.norm(rows, axis=1)
        bad = [name for name, size in zip(names, length) if not np.isfinite(size) or size == 0]
        if bad:
            raise StateshiftError(f"{some(bad)} can't be compared by cosine: zero or no numbers.")
        return rows / length[:, None]

    def _to_graph(self) -> None:
        """From exact to HNSW, once, when the vectors get many."""
        faiss = _module()
        graph = faiss.IndexHNSWFlat(self.width, LINKS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = EF_CONSTRUCTION
        if self._faiss.ntotal:
            logger.info("%d vectors or more: exact search gives way to a graph.", EXACT_BELOW)
            graph.add(self._faiss.reconstruct_n(0, self._faiss.ntotal))
        self._faiss = graph

    def _parameters(self, top_k: int) -> faiss.SearchParameters:
        """What a search looks at: alive rows, and enough of the graph."""
        faiss = _module()
        alive = None
        if len(self.names) > len(self):
            dead = np.array([r for r, name in enumerate(self.names) if self.row_of[name] != r], dtype=np.int64)
            alive = faiss.IDSelectorNot(faiss.IDSelectorBatch(dead))
        if self.is_exact:
            return faiss.SearchParameters(sel=alive)
        return faiss.SearchParametersHNSW(sel=alive, efSearch=max(self.ef, 2 * top_k))

    def _tune(self) -> None:
        """Find the efSearch that gives recall@10 of `RECALL` against exact search on stored vectors."""
        faiss = _module()
        count = self._faiss.ntotal
        rng = np.random.default_rng(0)
        picked = np.sort(rng.choice(count, size=min(RECALL_QUERIES, count), replace=False))
        queries = np.stack([self._faiss.reconstruct(int(i)) for i in picked])
        # neighbours of a stored vector's neighbourhood, not the vector itself
        queries += rng.standard_normal(queries.shape).astype(np.float32) / np.sqrt(self.width)
        truth = self._exact(queries, 10)
        for ef in (2**n for n in range(6, 20)):
            self.ef = ef
            _, found = self._faiss.search(queries, 10, params=faiss.SearchParametersHNSW(efSearch=ef))
            recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(truth, found)])
            if recall >= RECALL or ef >= min(MOST_EF, count):
                break
        self.about |= {"tuned_at": int(count), "recall_at_10": round(float(recall), 3)}
        logger.info("efSearch %d finds %.3f of the ten nearest.", self.ef, recall)

    def _exact(self, queries: np.ndarray, k: int) -> np.ndarray:
        """Rows of the k nearest by comparing with all, (Q, k)."""
        best = np.full((len(queries), k), -np.inf, dtype=np.float32)
        rows = np.zeros((len(queries), k), dtype=np.int64)
        for start in range(0, self._faiss.ntotal, BLOCK):
            size = min(BLOCK, self._faiss.ntotal - start)
            scores = queries @ self._faiss.reconstruct_n(start, size).T
            scores = np.concatenate([best, scores], axis=1)
            candidates = np.concatenate(
                [rows, np.broadcast_to(np.arange(start, start + size), (len(queries), size))], axis=1
            )
            top = np.argpartition(-scores, k - 1, axis=1)[:, :k]
            best, rows = np.take_along_axis(scores, top, 1), np.take_along_axis(candidates, top, 1)
        return rows


def _module():
    try:
        import faiss
    except ImportError as error:
        raise StateshiftError(
            "Searching vectors needs faiss: install it with `pip install 'stateshift[structure]'`."
        ) from error
    return faiss
