"""A sweep's overrides: what all runs share, what is swept, and the name of each run."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stateshift.errors import StateshiftError, first_line

LONGEST_NAME = 200
"""Characters of a run's name, with room for a suffix in the 255 that file systems take."""


@dataclass(frozen=True)
class SweepWords:
    """Hydra's words of a sweep.

    Parameters
    ----------
    fixed
        Overrides that all runs share.
    swept
        Key, in alphabetical order → its values, as Hydra writes them.
    hydra
        Words for Hydra itself, as ``hydra/launcher=joblib``.
    """

    fixed: list[str]
    swept: dict[str, list[str]]
    hydra: list[str]

    @classmethod
    def parse(cls, words: Sequence[str]) -> SweepWords:
        """Take words apart.

        Raises
        ------
        StateshiftError
            A word is no override, a key stands twice, or nothing is swept.
        """
        fixed, swept, hydra = [], {}, []
        seen = set()
        for word in words:
            override = _parsed(word)
            key = override.key_or_group
            if key in seen:
                raise StateshiftError(f"{key} stands twice among the overrides: write {key}=a,b.")
            seen.add(key)
            if key.startswith(("hydra/", "hydra.")):
                hydra.append(word)
            elif override.is_sweep_override():
                swept[key] = _values(override, word)
            else:
                fixed.append(word)
        if not swept:
            raise StateshiftError("--multirun has nothing to sweep over: write several values, as in seed=0,1,2.")
        return cls(fixed, dict(sorted(swept.items())), hydra)

    def combinations(self) -> list[list[str]]:
        """The swept words of each run."""
        several = itertools.product(*self.swept.values())
        return [[f"{key}={value}" for key, value in zip(self.swept, values)] for values in several]

    def all_words(self) -> list[str]:
        """What Hydra's sweeper is given."""
        return [*self.hydra, *self.fixed, *(f"{key}={','.join(values)}" for key, values in self.swept.items())]


def values_of(words: Sequence[str], keys: Sequence[str]) -> dict[str, Any]:
    """Swept key → its value among a run's words, in the order of `keys`."""
    parsed = {override.key_or_group: override.value() for override in map(_parsed, words)}
    return {key: parsed[key] for key in keys}


def run_name(values: dict[str, Any]) -> str:
    """The folder name of a run.

    Raises
    ------
    StateshiftError
        It is too long for a file name.

    Examples
    --------
    >>> run_name({"model": "state_tiny", "features": "tables/genept.pt", "seed": 0})
    'model=state_tiny,features=tables-genept.pt,seed=0'
    """
    name = ",".join(f"{key}={re.sub(r'[^A-Za-z0-9_.+-]', '-', str(value))}" for key, value in values.items())
    if len(name) > LONGEST_NAME:
        raise StateshiftError(f"A run of the sweep would be called {name}, which is too long: sweep over fewer keys.")
    return name


def run_names(words: SweepWords) -> list[str]:
    """Names of all runs, each different.

    Raises
    ------
    StateshiftError
        Two values can't be told apart in a name.
    """
    names = [run_name(values_of(combination, list(words.swept))) for combination in words.combinations()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise StateshiftError(f"Two runs of the sweep would be called {twice[0]}: name their values more differently.")
    return names


def quoted(path: Any) -> str:
    """A path as a value of Hydra's words, whatever its characters.

    Examples
    --------
    >>> quoted("a b/it's")
    "'a b/it\\\\'s'"
    """
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", str(path))
    return f"'{escaped}'"


def _values(override: Any, word: str) -> list[str]:
    from hydra.errors import HydraException

    try:
        values = list(dict.fromkeys(override.sweep_string_iterator()))
    except HydraException:
        values = []
    if not values:
        key = override.key_or_group
        raise StateshiftError(f"{word}: a sweep goes over values, as {key}=1,2 or {key}=range(3).")
    return values


def _parsed(word: str) -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(word)
    except HydraException as error:
        reason = first_line(error).rstrip(".")
        raise StateshiftError(f"`{word}` is no override: {reason}.") from error
