"""Nearest vectors by cosine: FAISS, exact or by a graph (HNSW) where one pays, with readable metadata."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stateshift.errors import StateshiftError, some
from stateshift.files import read_json, refuse_parquet_without_pyarrow, sha256, written_beside
from stateshift.vector_graph import (
    LINKS,
    PILOT,
    QUERIES,
    RECALL,
    WORTH,
    effort,
    empty_graph,
    faiss_module,
    share_compared,
    stored_vectors,
)

if TYPE_CHECKING:
    import faiss

logger = logging.getLogger(__name__)

EXACT_BELOW = 10_000
BLOCK = 65_536
ABOUT = "about.json"


class Hit(NamedTuple):
    """One neighbour: its name and its cosine with the query."""

    name: str
    score: float


class VectorIndex:
    """Named vectors that can be searched, added to and replaced.

    Below `EXACT_BELOW` every vector is compared with a query. From there graphs of a sample decide, once and
    again whenever the vectors are four times as many, whether a graph of all would spare most of that; a graph
    that still misses more than one in twenty of the ten nearest is given up. `stats` says which it is and why.

    Vectors are kept normalised. Where search is exact, a replaced vector makes way for the new one; in a graph it
    stays, marked as dead, so that an update never rebuilds; `stats` says how many there are.

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
        self.choice: dict[str, Any] = {"why": f"fewer than {EXACT_BELOW:,} vectors", "recall_at_10": 1.0}
        self._faiss = faiss_module().IndexFlatIP(self.width)

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
        names = list(vectors)
        blocks = [names[start : start + BLOCK] for start in range(0, len(names), BLOCK)]
        for block in blocks:
            self._normalised({name: vectors[name] for name in block})
        replaced = sum(name in self.row_of for name in names)
        grown = len(self) + len(names) - replaced
        if grown >= EXACT_BELOW and grown >= 4 * self.choice.get("decided_at", 0):
            self._decide(vectors, grown)
        self._make_room(grown)
        for block in blocks:
            self._put(block, self._normalised({name: vectors[name] for name in block}))
        for name, values in (metadata or {}).items():
            self.metadata[str(name)] = dict(values)
        if not self.is_exact and len(self.names) > 1.5 * self.choice.get("tuned_at", 0):
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
        rows = self._normalised({f"query {i + 1}": row for i, row in enumerate(queries)})
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
        return self._faiss.reconstruct_batch(np.array(rows, dtype=np.int64))

    def stats(self) -> dict[str, Any]:
        """Numbers about the index."""
        return {
            "vectors": len(self),
            "width": self.width,
            "kind": "exact" if self.is_exact else f"HNSW, {LINKS} links, efSearch {self.choice['ef']}",
            "why": self.choice["why"],
            "recall_at_10": self.choice["recall_at_10"],
            "replaced": len(self.names) - len(self),
            "megabytes": round(len(self.names) * (self.width * 4 + (0 if self.is_exact else LINKS * 8)) / 2**20, 2),
            **self.about,
        }

    def save(self, folder: str | Path) -> Path:
        """Write the index; an older one there is replaced only when the new one lies whole beside it."""
        import pandas as pd

        folder = Path(folder)
        refuse_parquet_without_pyarrow(folder / "entries.parquet")
        before = read_json(folder / ABOUT, "Build the index elsewhere.") if (folder / ABOUT).is_file() else {}
        number = before.get("generation", 0) + 1
        faiss = faiss_module()
        # by a handle of Python's: faiss itself closes a file that the disk has no room for as if it were whole
        with written_beside(folder / f"vectors.{number}.faiss", overwrite=True) as part, open(part, "wb") as handle:
            faiss.write_index(self._faiss, faiss.PyCallbackIOWriter(handle.write))
        entries = pd.DataFrame({"name": self.names})
        entries["alive"] = [self.row_of[name] == row for row, name in enumerate(self.names)]
        extra = pd.DataFrame([self.metadata.get(name, {}) for name in self.names], index=entries.index)
        for column in extra:
            # a column of a parquet table has one kind: what came as words and as numbers is words
            if extra[column].dropna().map(type).nunique() > 1:
                extra[column] = extra[column].map(str, na_action="ignore")
        with written_beside(folder / f"entries.{number}.parquet", overwrite=True) as part:
            pd.concat([entries, extra.drop(columns=["name", "alive"], errors="ignore")], axis=1).to_parquet(part)
        checksums = {name: sha256(folder / name) for name in (f"vectors.{number}.faiss", f"entries.{number}.parquet")}
        told = {"generation": number, "width": self.width, "choice": self.choice, "about": self.about}
        told["sha256"] = checksums
        with written_beside(folder / ABOUT, overwrite=True) as part:
            part.write_text(json.dumps(told, indent=2, default=str) + "\n")
        for old in folder.iterdir():
            written = re.fullmatch(r"vectors\.(\d+)\.faiss|entries\.(\d+)\.parquet", old.name)
            if written and number != int(written[1] or written[2]):
                old.unlink()
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> VectorIndex:
        """Read an index; its files are numbers, a table and JSON, held against checksums, and nothing is unpickled.

        Raises
        ------
        StateshiftError
            There is none, or its files are damaged or don't belong together.
        """
        import pandas as pd

        folder = Path(folder)
        if not (folder / ABOUT).is_file():
            raise StateshiftError(f"{folder} is no index: it lacks {ABOUT}.")
        faiss = faiss_module()
        refuse_parquet_without_pyarrow(folder / "entries.parquet")
        told = read_json(folder / ABOUT, "Build the index again.")
        try:
            generation = int(told["generation"])
            vectors, table = folder / f"vectors.{generation}.faiss", folder / f"entries.{generation}.parquet"
            noted = dict(told.get("sha256", {}))
            for part in (vectors, table):
                if sha256(part) != noted.get(part.name):
                    raise ValueError(f"{part.name} doesn't match its checksum")
            index = cls(told["width"], told["about"])
            index._faiss = faiss.read_index(str(vectors))
            entries = pd.read_parquet(table)
            index.choice |= told["choice"]
            index.names = entries["name"].astype(str).tolist()
            index.row_of = {name: row for row, name in enumerate(index.names) if entries["alive"].iat[row]}
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:120]
            raise StateshiftError(f"{folder} is a damaged index ({reason}): build it again.") from error
        if index._faiss.ntotal != len(entries) or index._faiss.d != index.width:
            raise StateshiftError(f"{folder} is a damaged index: its vectors and names don't belong together.")
        columns = [c for c in entries if c not in ("name", "alive")]
        if columns:
            values = entries[columns].astype(object).where(entries[columns].notna(), None).to_dict("records")
            index.metadata = {name: values[row] for name, row in index.row_of.items()}
        return index

    def _put(self, names: list[str], rows: np.ndarray) -> None:
        """Normalised rows (N, width) under their names: new ones at the end, known ones in place where that can be."""
        new = np.array([not self.is_exact or name not in self.row_of for name in names])
        known = [self.row_of[name] for name, is_new in zip(names, new) if not is_new]
        if known:
            flat = self._faiss
            faiss_module().rev_swig_ptr(flat.get_xb(), flat.ntotal * self.width).reshape(-1, self.width)[known] = rows[
                ~new
            ]
        self._faiss.add(rows[new])
        added = [name for name, is_new in zip(names, new) if is_new]
        self.row_of |= {name: len(self.names) + i for i, name in enumerate(added)}
        self.names += added

    def _normalised(self, vectors: Mapping[str, np.ndarray]) -> np.ndarray:
        """Named vectors as rows (N, width) of length one; a sentence where some can't be."""
        other = {name: np.size(vector) for name, vector in vectors.items() if np.shape(vector) != (self.width,)}
        if other:
            raise StateshiftError(
                f"The index holds vectors {self.width} wide, {some(other, 3)} are {some(sorted(set(other.values())))} "
                "wide: they come from another model."
            )
        rows = np.array(list(vectors.values()), dtype=np.float32).reshape(len(vectors), self.width)
        length = np.linalg.norm(rows, axis=1)
        bad = [name for name, size in zip(vectors, length) if not np.isfinite(size) or size == 0]
        if bad:
            raise StateshiftError(f"{some(bad)} can't be compared by cosine: zero or no numbers.")
        rows /= length[:, None]
        return rows

    def _decide(self, new: Mapping[str, np.ndarray], count: int) -> None:
        """Whether `count` vectors, those here and new ones, are searched by a graph: graphs of a sample tell."""
        logger.info("Trying on a sample whether a graph pays for %d vectors.", count)
        kept = [name for name in self.row_of if name not in new]
        pool = [*kept, *new]
        # in the order that they stand in, so that vectors made when asked for are made block by block
        picked = np.sort(np.random.default_rng(0).choice(len(pool), min(PILOT + QUERIES, len(pool)), replace=False))
        sample = np.concatenate(
            [
                self.vectors([pool[i] for i in picked if i < len(kept)]),
                self._normalised({pool[i]: new[pool[i]] for i in picked if i >= len(kept)}),
            ]
        )
        share = share_compared(np.random.default_rng(1).permutation(sample), count)
        told = f"a graph would compare {share:.0%} of {count:,} vectors a query to find {RECALL:.0%} of the ten nearest"
        if share <= WORTH and self.is_exact:
            self._to_graph()
        elif share > WORTH:
            self._to_exact()
        self.choice |= {"decided_at": count, "why": told}
        logger.info("%s: %s.", "exact" if self.is_exact else "HNSW", told)

    def _to_graph(self) -> None:
        """From exact to HNSW."""
        self._move(empty_graph(self.width))

    def _to_exact(self) -> None:
        """From HNSW to exact."""
        if not self.is_exact:
            self._move(faiss_module().IndexFlatIP(self.width))
        self.choice = {"recall_at_10": 1.0}

    def _move(self, other: faiss.Index) -> None:
        """Into another kind of index; the dead stay behind."""
        names = list(self.row_of)
        for start in range(0, len(names), BLOCK):
            other.add(self.vectors(names[start : start + BLOCK]))
        self._faiss, self.names, self.row_of = other, names, {name: row for row, name in enumerate(names)}

    def _tune(self) -> None:
        """Find the efSearch that `RECALL` needs, of neighbours of stored vectors; without one the graph goes."""
        count = self._faiss.ntotal
        rng = np.random.default_rng(0)
        picked = np.sort(rng.choice(count, size=min(QUERIES, count), replace=False))
        queries = np.stack([self._faiss.reconstruct(int(i)) for i in picked])
        # a stored vector would find itself and its links: questions lie beside them
        queries += rng.standard_normal(queries.shape).astype(np.float32) / np.sqrt(self.width)
        ef, compared, recall = effort(self._faiss, queries, most=2 * WORTH)
        if recall < RECALL:
            why = (
                f"a graph of {count:,} vectors compared {compared / count:.0%} of them for a recall@10 of {recall:.2f}"
            )
            self._to_exact()
            self.choice |= {"decided_at": len(self), "why": why}
        else:
            self.choice |= {"tuned_at": count, "ef": ef, "recall_at_10": round(recall, 3)}
        logger.info("%s.", self.choice)

    def _make_room(self, count: int) -> None:
        """Have an empty index take all it will hold at once: growing by and by, faiss doubles, and copies."""
        if not self._faiss.ntotal:
            codes = (self._faiss if self.is_exact else stored_vectors(self._faiss)).codes
            codes.resize(count * self.width * 4)
            codes.resize(0)

    def _parameters(self, top_k: int) -> faiss.SearchParameters:
        """What a search looks at: alive rows, and enough of the graph."""
        faiss = faiss_module()
        alive = None
        if len(self.names) > len(self):
            dead = np.setdiff1d(np.arange(len(self.names)), np.fromiter(self.row_of.values(), dtype=np.int64))
            alive = faiss.IDSelectorNot(faiss.IDSelectorBatch(dead))
        if self.is_exact:
            return faiss.SearchParameters(sel=alive)
        return faiss.SearchParametersHNSW(sel=alive, efSearch=max(self.choice["ef"], 2 * top_k))
