"""Pickles opened without running what they may hold: plain values, numpy arrays and torch tensors, nothing else."""

from __future__ import annotations

import io
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from stateshift.errors import StateshiftError


class _Restricted(pickle._Unpickler):
    """Finds the few names that arrays are rebuilt by; any other name ends the reading before it is called.

    It is Python's own reader, not the one in C: that would claim any memory that a damaged number asks for.
    """

    def __init__(self, handle: io.BufferedIOBase, path: Path):
        super().__init__(handle)
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        """The object of a name that is let through."""
        found = _allowed(module, name)
        if found is None:
            raise StateshiftError(
                f"{self.path} is refused: this pickle would run `{module}.{name}`, and embeddings are dicts of numpy "
                "arrays alone. Nothing in it was run; have it saved anew as .npz or .h5."
            )
        return found

    def persistent_load(self, pid: object) -> Any:
        """Refuse references to objects outside the file."""
        raise StateshiftError(f"{self.path} is refused: this pickle refers to objects outside the file.")


def read_pickle(path: str | Path) -> Any:
    """What a pickle of dicts, lists, plain values, numpy arrays and torch tensors holds.

    Raises
    ------
    StateshiftError
        It names anything else, which is not run; or it is damaged or cut short.
    """
    path = Path(path)
    try:
        with path.open("rb") as handle:
            return _plain(_Restricted(handle, path).load())
    except StateshiftError as error:
        named = str(error).startswith(str(path))
        raise error if named else StateshiftError(f"{path} is refused: {error}") from error
    except Exception as error:  # a crafted or cut pickle may end in almost any of them
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise StateshiftError(f"{path} can't be read as a pickle, it is damaged or cut short: {reason}.") from error


class _DType:
    """The element type of a pickled array, numbers and texts; numpy's own would believe whatever state it is given."""

    def __init__(self, code: str, *_: object):
        if not (isinstance(code, str) and re.fullmatch(r"[fiu]\d{1,2}|b1|[SU]\d{1,6}", code)):
            raise StateshiftError(f"arrays of type `{code}` are no embeddings.")
        self.value = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        self.value = self.value.newbyteorder(">" if state[1] == ">" else "<")


class _Array:
    """An array to be, filled by what the pickle says of its shape and bytes."""

    value: np.ndarray

    def __init__(self, *_: object):
        pass

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, content = state
        self.value = _from_bytes(content, dtype, shape, "F" if is_fortran else "C")


class _ArrayOfBytes:
    """An array as pickles of protocol 5 hold it."""

    def __init__(self, content: bytes, dtype: _DType, shape: tuple[int, ...], order: str):
        self.value = _from_bytes(content, dtype, shape, order)


class _Scalar:
    """A single numpy number or text."""

    def __init__(self, dtype: _DType, content: bytes):
        self.value = _from_bytes(content, dtype, (), "C")[()]


def _from_bytes(content: bytes, dtype: _DType, shape: tuple[int, ...], order: str) -> np.ndarray:
    array = np.frombuffer(content, dtype.value).reshape(shape, order=order)
    if array.dtype.kind == "U":
        array.tolist()  # raises where bytes are no characters
    return array


def _plain(content: Any) -> Any:
    """The content with its arrays in place."""
    if isinstance(content, _Array | _ArrayOfBytes | _Scalar):
        return content.value
    if isinstance(content, dict):
        return {key.value if isinstance(key, _Scalar) else key: _plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    return content


def _latin1(text: str, encoding: str) -> bytes:
    """How pickles of protocol 2 and below hold bytes."""
    if encoding != "latin1":
        raise StateshiftError(f"bytes in encoding `{encoding}` are no part of an array.")
    return text.encode("latin1")


def _default_dict(*_: object) -> dict:
    """A dict in a defaultdict's place: what it would have called for new keys is left out."""
    return {}


NEVER_CALLED = "an argument of what stands for its caller, and text cannot be called"
STANDS_FOR = {
    ("numpy", "ndarray"): NEVER_CALLED,
    ("numpy", "dtype"): _DType,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.multiarray", "scalar"): _Scalar,
    ("numpy.core.numeric", "_frombuffer"): _ArrayOfBytes,
    ("_codecs", "encode"): _latin1,
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): _default_dict,
    **{("builtins", factory): NEVER_CALLED for factory in ("dict", "list", "int", "float", "str")},
}


def _allowed(module: str, name: str) -> Any:
    """What stands for a name that pickles of arrays hold, or None."""
    if module.startswith("torch"):
        return _allowed_of_torch(module, name)
    module = "builtins" if module == "__builtin__" else module.replace("numpy._core", "numpy.core")
    return STANDS_FOR.get((module, name))


def _allowed_of_torch(module: str, name: str) -> Callable[..., Any] | None:
    """A tensor's rebuilding; the storage inside goes through torch's own weights-only loader."""
    import torch

    if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
        return torch._utils._rebuild_tensor_v2
    if (module, name) == ("torch.storage", "_load_from_bytes"):
        return lambda content: torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return None
