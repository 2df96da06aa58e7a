"""Files that arc-state and Lightning pickled, read without executing what a pickle may ask for."""

from __future__ import annotations

import pickle
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from stateshift.errors import StateshiftError
from stateshift.files import refuse_altered


def read_pickled(path: str | Path) -> Any:
    """The content of a ``.ckpt``, ``.pt``, ``.torch`` or ``.pkl`` file.

    Only tensors, arrays, numbers, plain containers and omegaconf's are made; tensors stay on disk until
    they are read.

    Raises
    ------
    StateshiftError
        The file is missing, damaged, or names anything else, which is not executed.
    """
    import torch

    path = Path(path)
    if not path.is_file():
        raise StateshiftError(f"{path}: there is no such file.")
    try:
        if path.suffix == ".pkl":
            with open(path, "rb") as handle:
                return _Plain(handle).load()
        refuse_altered(path)
        with torch.serialization.safe_globals([(made, name) for name, made in _allowed().items()]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except Exception as error:
        if (refused := re.search(r"(?:GLOBAL|class) (\S+\.\S+)", str(error))) and "llow" in str(error):
            raise StateshiftError(
                f"{path} asks for {refused[1].rstrip('.')} to be called as it is read, which is no part of a "
                "checkpoint: it is refused, and nothing of it was executed."
            ) from error
        raise StateshiftError(
            f"{path} is cut short, damaged, or no file of arc-state ({type(error).__name__}): copy it anew."
        ) from error


class _Plain(pickle._Unpickler):
    """Python's unpickler, with nothing to call beyond what is allowed.

    The one in C would claim any memory that a damaged number asks for.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (made := _allowed().get(f"{module}.{name}")) is None:
            raise pickle.UnpicklingError(f"class {module}.{name} is not allowed")
        return made


@cache
def _allowed() -> dict[str, Any]:
    """Full name → what is made for it: the parts of numpy values, containers and paths."""
    import typing
    from _codecs import encode
    from collections import OrderedDict, defaultdict
    from pathlib import PurePosixPath

    from omegaconf import DictConfig, ListConfig, nodes
    from omegaconf.base import ContainerMetadata, Metadata

    plain = (dict, list, tuple, set, int, float, str, bool, OrderedDict, defaultdict, np.ndarray, np.dtype)
    omega = (DictConfig, ListConfig, ContainerMetadata, Metadata)
    omega = (*omega, nodes.AnyNode, nodes.StringNode, nodes.IntegerNode, nodes.FloatNode, nodes.BooleanNode)
    dtypes = {type(np.dtype(code)) for code in "?bBhHiIlLqQefdUSO"}
    allowed = {f"{made.__module__}.{made.__qualname__}": made for made in (*plain, *omega, *dtypes)}
    reconstruct = np.ndarray.__reduce__(np.empty(0))[0]
    for package in ("numpy.core", "numpy._core"):
        allowed |= {f"{package}.multiarray.scalar": _scalar, f"{package}.multiarray._reconstruct": reconstruct}
    for name in ("lightning.fabric.utilities.data.AttributeDict", "lightning.pytorch.utilities.parsing.AttributeDict"):
        allowed[name] = dict
    allowed |= {f"pathlib.{name}": PurePosixPath for name in ("Path", "PosixPath", "PurePosixPath")}
    return allowed | {"_codecs.encode": encode, "typing.Any": typing.Any}


def _scalar(dtype: np.dtype, data: bytes) -> Any:
    """A numpy scalar from its bytes."""
    if dtype.hasobject or not isinstance(data, bytes):
        raise StateshiftError("a numpy scalar that holds a Python object")
    return np.frombuffer(data, dtype)[0].item()


def _is_zip(path: Path) -> bool:
    with open(path, "rb") as handle:
        return handle.read(2) == b"PK"
