"""Biological assemblies: which chains, in how many copies."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stateshift.errors import StateshiftError, some
from stateshift.structure.parsing.chains import Chain, chains_of
from stateshift.structure.parsing.files import read_structure

if TYPE_CHECKING:
    import gemmi

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Assembly:
    """A biological assembly.

    Parameters
    ----------
    name
        Its id in the file, most often ``"1"``.
    chains
        Its protein chains, one entry a copy, in the order that the file makes them.
    left_out
        Labels of copies left out because the residue limit was passed before them.
    """

    name: str
    chains: list[Chain]
    left_out: list[str]

    @property
    def residues(self) -> int:
        """Residues of all copies together."""
        return sum(map(len, self.chains))


def read_assemblies(
    source: str | Path,
    assembly: str | None = None,
    format: str = "auto",
    model: int = 1,
    min_residues: int = 0,
    max_residues: int | None = None,
) -> list[Assembly]:
    """The biological assemblies that a file describes.

    Parameters
    ----------
    source, format, model
        As in `read_chains`.
    assembly
        One by its id; default: all.
    min_residues
        Chains with fewer residues are left out.
    max_residues
        Chains are added in order until an assembly holds more than this many residues.

    Raises
    ------
    StateshiftError
        The file can't be read, describes no assembly or not this one, or one without protein chains.
    """
    structure = read_structure(source, format)
    chains = chains_of(structure, str(source), model)
    described = {a.name: a for a in structure.assemblies}
    if not described:
        raise StateshiftError(f"{source} describes no biological assembly: embed its chains instead.")
    if assembly is not None and assembly not in described:
        raise StateshiftError(f"{source} has no assembly `{assembly}`: there are {some(described)}.")
    wanted = described if assembly is None else {assembly: described[assembly]}
    return [_assembly(a, chains, str(source), min_residues, max_residues) for a in wanted.values()]


def _assembly(described: gemmi.Assembly, chains: list[Chain], where: str, least: int, most: int | None) -> Assembly:
    taken: list[Chain] = []
    left_out: list[str] = []
    residues = 0
    for generator in described.generators:
        labels, authors = set(generator.subchains), set(generator.chains)
        members = [c for c in chains if (c.label in labels or c.author in authors) and len(c) >= least]
        for chain in members * len(generator.operators):
            if most is not None and residues > most:
                left_out.append(chain.label)
                continue
            taken.append(chain)
            residues += len(chain)
    if not taken:
        raise StateshiftError(f"{where}: assembly `{described.name}` has no protein chain of {least} or more residues.")
    if left_out:
        logger.warning(
            "%s: assembly `%s` is past --max-residues %d without %s.", where, described.name, most, some(left_out)
        )
    return Assembly(described.name, taken, left_out)
