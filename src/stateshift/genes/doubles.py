"""How doubles are spelt: ``A+B``, in any order of the genes."""

from __future__ import annotations

from collections.abc import Collection, Iterable

NO_SEPARATORS = "_,;|/& "
"""What other tools write between the genes of a double, and what symbols of genes may hold."""


def any_order(perturbation: str) -> str:
    """One name for all orders of a perturbation's genes.

    Examples
    --------
    >>> any_order("KLF1+GATA1"), any_order("GATA1 + KLF1"), any_order("TP53")
    ('GATA1+KLF1', 'GATA1+KLF1', 'TP53')
    """
    return "+".join(sorted(gene.strip() for gene in perturbation.split("+")))


def as_spelt(perturbations: Iterable[str], known: Iterable[str]) -> list[str]:
    """Each perturbation by the name that it has among those known, whatever the order of its genes; else its own.

    Examples
    --------
    >>> as_spelt(["B+A", "A+C", "A"], known=["A+B", "A"])
    ['A+B', 'A+C', 'A']
    """
    names = {any_order(name): name for name in known}
    return [names.get(any_order(perturbation), perturbation) for perturbation in perturbations]


def misspelt_doubles(names: Iterable[str], genes: Collection[str]) -> list[str]:
    """A sentence on each name that is several known genes with another separator than ``+``.

    Symbols may hold such characters themselves, so a name that is a known gene is let be.

    Parameters
    ----------
    names
        Perturbations.
    genes
        The genes that are known.

    Examples
    --------
    >>> misspelt_doubles(["KLF1_GATA1", "KLF1+GATA1", "HLA_A", "A_B"], {"KLF1", "GATA1", "A", "B", "A_B"})
    ['`KLF1_GATA1` names known genes: a double is written `KLF1+GATA1`.']
    """
    known, found = set(genes), []
    for name in names:
        for separator in NO_SEPARATORS if name not in known else "":
            parts = [part.strip() for part in name.split(separator)]
            if len(parts) > 1 and known.issuperset(parts):
                found.append(f"`{name}` names known genes: a double is written `{'+'.join(parts)}`.")
    return found
