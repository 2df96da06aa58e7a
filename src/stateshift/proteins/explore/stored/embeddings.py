"""Stored embeddings of any maker: pickle, torch, npz and HDF5 files, opened without running what they hold."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from stateshift.errors import InputProblems, StateshiftError, some, suggestion
from stateshift.files import intact
from stateshift.proteins.embedding.embed import LEVELS
from stateshift.proteins.explore.stored.files import READERS, kind_of
from stateshift.proteins.store.reader import FORMAT, EmbeddingStore

ID_KEYS = ("ids", "id", "names", "labels", "label", "accessions", "genes")
NO_EMBEDDING = re.compile(
    r"(^|[^a-z])(contacts?|attentions?|attention_weights|logits?|tokens?|token_ids|masks?|lengths?)(/\d+)?$",
    re.IGNORECASE,
)
"""How keys end of what models give beside embeddings; ``token_embeddings`` are some."""
BY_LAYER = {"representations", "mean_representations"}
"""What fair-esm calls a protein's arrays by layer; numbers elsewhere may be ids."""
LEVEL_OF = dict(zip((2, 1), LEVELS))
"""Dimensions of an array and the level that it is."""


@dataclass(frozen=True)
class Embeddings:
    """Embeddings by id, at one level or both; arrays of HDF5 files are read when they are asked for.

    ``with read_embeddings(path) as held:`` closes the file at the end.

    Parameters
    ----------
    where
        The file.
    layout
        How it holds them, in words.
    residues
        Id → (L, D), or (L + 2, D) where BOS and EOS were kept.
    proteins
        Id → (D,).
    notes
        What was passed over or chosen among several, a sentence each.
    sequences
        Id → sequence, where the file holds them.
    keys
        What the file calls an id's arrays, and how many ids have each.
    pooling
        What the file says that its protein vectors are, where it does.
    file
        What is open still.
    """

    where: str
    layout: str
    residues: Mapping[str, Any] = field(default_factory=dict)
    proteins: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    sequences: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, int] = field(default_factory=dict)
    pooling: str | None = None
    file: ExitStack = field(default_factory=ExitStack, repr=False, compare=False)

    def __enter__(self) -> Embeddings:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, where it is one that is read as one goes."""
        self.file.close()

    @property
    def ids(self) -> list[str]:
        """All ids, in the order of the file."""
        return list(dict.fromkeys([*self.residues, *self.proteins]))

    @property
    def levels(self) -> tuple[str, ...]:
        """``residue``, ``protein`` or both."""
        return tuple(level for level, held in (("residue", self.residues), ("protein", self.proteins)) if held)

    def residue(self, id: str) -> np.ndarray:
        """A protein's residue rows, (L, D) float32, or (L + 2, D) where BOS and EOS were kept."""
        return self._array(self.residues, id, "residue rows")

    def protein(self, id: str) -> np.ndarray:
        """A protein's vector, (D,) float32."""
        return self._array(self.proteins, id, "protein vector")

    def of_others(self, sequences: Mapping[str, str]) -> list[str]:
        """Ids whose embeddings were made of other sequences than these, where the file tells of what."""
        return [id for id, sequence in sequences.items() if self.sequences.get(id, sequence) != sequence]

    def _array(self, held: Mapping[str, Any], id: str, what: str) -> np.ndarray:
        if id not in held:
            near = "" if id in self.ids else suggestion(id, self.ids)
            raise StateshiftError(f"{self.where} holds no {what} of `{id}`{near}.")
        with intact(self.where, "Copy it again, or embed anew."):
            return np.asarray(held[id][()], dtype=np.float32)


def read_embeddings(path: str | Path) -> Embeddings:
    """Open a file of stored embeddings; what it is shows from its content, not from its name.

    Read are ``{id: {"residue": (L, D), "protein": (D,)}}``, ``{id: array}``, ids beside a matrix ``(N, D)``, and
    fair-esm's file of one protein, all of them from pickle, ``.pt``, ``.npz`` and HDF5. An array of one dimension is a
    protein vector, one of two dimensions residue rows; of several layers the last is taken and that is noted.

    Raises
    ------
    StateshiftError
        The file is missing, damaged, of another kind, holds code, or no embeddings.
    InputProblems
        Entries that can't be used, all of them named.
    """
    path = Path(path)
    if not path.is_file():
        raise StateshiftError(f"{path}: there is no such file of embeddings.")
    kind = kind_of(path)
    if kind == "gzip":
        raise StateshiftError(f"{path} is compressed: unpack it first (gunzip).")
    if kind not in READERS:
        raise StateshiftError(f"{path} holds no embeddings: it is no pickle, .pt, .npz or HDF5 file.")
    content = READERS[kind](path)
    with ExitStack() as file, intact(path, "Copy it again, or embed anew."):
        if kind == "hdf5" and file.enter_context(content).attrs.get("format") == FORMAT:
            held = _of_store(file.enter_context(EmbeddingStore(path)))
        else:
            held = _at_levels(_by_id(content, path), path, kind)
        return replace(held, file=file.pop_all())


@dataclass(frozen=True)
class _Kept:
    """An array in a store, read when it is asked for."""

    read: Callable[[str], np.ndarray]
    id: str
    shape: tuple[int, ...]
    dtype: np.dtype

    def __getitem__(self, _: tuple) -> np.ndarray:
        return self.read(self.id)


def _of_store(store: EmbeddingStore) -> Embeddings:
    """A store that ``stateshift protein embed`` wrote."""
    float32 = np.dtype(np.float32)
    residues, proteins = {}, {}
    if "residue" in store.levels:
        dtype = store.residue(store.ids[0]).dtype
        residues = {id: _Kept(store.residue, id, (store.length(id), store.width), dtype) for id in store.ids}
    if "protein" in store.levels:
        proteins = {id: _Kept(store.protein, id, (store.width,), float32) for id in store.ids}
    told = (f"made with {store.model}: " + ", ".join(f"{key} {value}" for key, value in store.settings.items()) + ".",)
    return Embeddings(
        str(store.path),
        "store of stateshift",
        residues,
        proteins,
        told,
        {id: store.sequence(id) for id in store.ids},
        pooling=store.settings.get("pooling"),
    )


def _by_id(content: Any, path: Path) -> dict[str, Any]:
    """Id → what the file holds of it."""
    if isinstance(content, list) and content and all(isinstance(entry, Mapping) for entry in content):
        key = next((key for key in ID_KEYS if all(key in entry for entry in content)), None)
        if key is not None:
            return {str(entry[key]): entry for entry in content}
    if not isinstance(content, Mapping):
        held = f"an array of shape {_shape(content)}" if _is_array(content) else f"a {type(content).__name__}"
        raise StateshiftError(f"{path} holds {held} without ids: embeddings come as {{id: …}}, or ids beside a matrix.")
    if isinstance(content.get("label"), str):
        return {content["label"]: content}
    if content and all(key in LEVELS and isinstance(by_id, Mapping) for key, by_id in content.items()):
        ids = dict.fromkeys(str(id) for by_id in content.values() for id in by_id)
        levels = {level: {str(id): array for id, array in by_id.items()} for level, by_id in content.items()}
        return {id: {level: by_id[id] for level, by_id in levels.items() if id in by_id} for id in ids}
    ids_key = next((key for key in ID_KEYS if key in content and _is_list_of_names(content[key])), None)
    if ids_key is not None:
        return _rows_of_matrix(content, ids_key, path)
    return {str(id): entry for id, entry in content.items()}


def _rows_of_matrix(content: Mapping[str, Any], ids_key: str, path: Path) -> dict[str, Any]:
    ids = (
        [id.decode() if isinstance(id, bytes) else str(id) for id in content[ids_key][()]]
        if _is_array(content[ids_key])
        else content[ids_key]
    )
    matrices = {
        key: value for key, value in content.items() if key != ids_key and _is_array(value) and len(_shape(value)) >= 2
    }
    if len(matrices) != 1:
        raise StateshiftError(
            f"{path} holds `{ids_key}` beside {len(matrices)} matrices ({some(matrices)}): one is needed."
        )
    key, matrix = next(iter(matrices.items()))
    if len(ids) != _shape(matrix)[0]:
        raise StateshiftError(
            f"{path}: `{ids_key}` names {len(ids)} proteins, and `{key}` has {_shape(matrix)[0]} rows."
        )
    return {id: {key: row} for id, row in zip(ids, matrix[()])}


def _at_levels(entries: Mapping[str, Any], path: Path, kind: str) -> Embeddings:
    """Each entry's arrays sorted into residue rows and protein vectors."""
    held: dict[str, dict[str, Any]] = {"residue": {}, "protein": {}}
    notes: Counter[str] = Counter()
    keys: Counter[str] = Counter()
    problems = []
    for id, entry in entries.items():
        by_level: dict[str, dict[str, Any]] = {}
        for key, array in _arrays(entry):
            keys[key or "none, an array an id"] += 1
            level = LEVEL_OF.get(len(_shape(array)))
            if level is None or NO_EMBEDDING.search(key):
                notes[f"`{key}` of shape {_shape(array)} is passed over"] += 1
            else:
                by_level.setdefault(level, {})[key] = array
        for level, arrays in by_level.items():
            key = _chosen(arrays, level)
            if key is None:
                problems.append(f"`{id}` holds several arrays that could be its {level} level ({some(arrays)}).")
                continue
            if len(arrays) > 1:
                notes[f"of {some(arrays)}, `{key}` is taken for the {level} level"] += 1
            held[level][id] = arrays[key]
        if not by_level:
            problems.append(f"`{id}` holds no numeric array of one or two dimensions.")
    if problems:
        raise InputProblems(
            str(path), problems[:20] + ([f"and {len(problems) - 20} more."] if len(problems) > 20 else [])
        )
    if not entries:
        raise StateshiftError(f"{path} is empty: it holds no embeddings.")
    told = tuple(f"{note} ({count:,} ids)." for note, count in notes.items())
    return Embeddings(str(path), kind, held["residue"], held["protein"], told, keys=keys)


def _arrays(entry: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The numeric arrays of an entry with their keys; a batch axis of one is taken off."""
    if isinstance(entry, Mapping):
        for key, value in entry.items():
            yield from _arrays(value, f"{name}/{key}" if name else str(key))
        return
    if not _is_array(entry):
        return
    entry = entry.detach().float().numpy() if hasattr(entry, "detach") else entry
    if entry.dtype.kind in "fiu" and len(entry.shape):
        yield name, entry[0] if len(entry.shape) == 3 and entry.shape[0] == 1 else entry


def _chosen(arrays: Mapping[str, Any], level: str) -> str | None:
    """The key of an entry's array at a level: the only one, the one named so, or the mean's or last layer's."""
    if len(arrays) == 1:
        return next(iter(arrays))
    named = [key for key in arrays if key.rpartition("/")[2] == level] or [k for k in arrays if k.startswith("mean")]
    keys = named or list(arrays)
    if len(keys) > 1:
        layers = {key: key.rpartition("/")[2] for key in keys}
        held_by = {key.rpartition("/")[0] for key in keys}
        if len(held_by) == 1 and held_by <= BY_LAYER and all(layer.isdigit() for layer in layers.values()):
            return max(keys, key=lambda key: int(layers[key]))
        return None
    return keys[0]


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _shape(array: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in array.shape)


def _is_list_of_names(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(name, str) for name in value)
    return _is_array(value) and len(value.shape) == 1 and getattr(value.dtype, "kind", "") in "USO"
