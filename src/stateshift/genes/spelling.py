"""Names that differ in their spelling alone."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable


def folded(name: str) -> str:
    """A name without case, spaces, underscores, and hyphens and dots inside words.

    A sign at a word's end says something (``CD4+``, ``CD4-``), and what parts two digits does too
    (``cluster 1-1`` is not ``cluster 11``): both stay.

    Examples
    --------
    >>> folded("K-562") == folded("k562") == folded("K 562")
    True
    >>> folded("CD4+ T"), folded("CD4- T"), folded("CD4 T")
    ('cd4+t', 'cd4-t', 'cd4t')
    >>> folded("KRTAP1-1") == folded("KRTAP11")
    False
    """
    text = unicodedata.normalize("NFKC", name).casefold()
    text = re.sub(r"(?<=\d)[\s_.-](?=\d)", "~", text)
    text = re.sub(r"(?<=[^\W_])[.-](?=[^\W_])", "", text)
    return re.sub(r"[\s_]", "", text)


def alike(names: Iterable[str], key: Callable[[str], str] = folded) -> list[list[str]]:
    """Names that share a key with another, together and in their order.

    Examples
    --------
    >>> alike(["K562", "HepG2", "k562", "K562"])
    [['K562', 'k562']]
    """
    by_key: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        by_key.setdefault(key(name), []).append(name)
    return [group for group in by_key.values() if len(group) > 1]
