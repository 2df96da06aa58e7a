"""Mutants called against the wild type, by hand-made cases and by mutating and finding out."""

from __future__ import annotations

import random

import pytest

from stateshift.proteins.explore.mutants.calls import THREE_LETTERS, Change, call_mutant

WT = "MSTNPKPQRKLAAAGWERYV"
AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"


@pytest.mark.parametrize(
    ("mutant", "kind", "hgvs"),
    [
        ("MSTNPKPQRKLAAAGWERYV", "identical", "p.="),
        ("VSTNPKPQRKLAAAGWERYV", "substitution", "p.Met1Val"),
        ("MSTNPKPQRKLAAAGWERYX", "substitution", "p.Val20Xaa"),
        ("MSTNAKPQRKLAAAGWERYA", "several substitutions", "p.[Pro5Ala;Val20Ala]"),
        ("MSTNAAPQRKLAAAGWERYV", "several substitutions", "p.Pro5_Lys6delinsAlaAla"),
        ("MSTNPKPQRKLAAGWERYV", "indel", "p.Ala14del"),
        ("MSTKPQRKLAAAGWERYV", "indel", "p.Asn4_Pro5del"),
        ("STNPKPQRKLAAAGWERYV", "indel", "p.Met1del"),
        ("MSTNPKPQRKLAAAGW", "indel", "p.Glu17Ter"),
        ("MSTNPKPQRKLAAAAGWERYV", "indel", "p.Ala14dup"),
        ("MSTNPKPQKPQRKLAAAGWERYV", "indel", "p.Lys6_Gln8dup"),
        ("MSTNPKPQRKLHHAAAGWERYV", "indel", "p.Leu11_Ala12insHisHis"),
        ("GGMSTNPKPQRKLAAAGWERYV", "indel", "p.Met1ext-2"),
        ("MSTNPKPQRKLAAAGWERYVHH", "indel", "p.Ter21HisextHisTer"),
        ("MSTNPKPDDDRKLAAAGWERYV", "indel", "p.Gln8delinsAspAspAsp"),
        ("MSTNPKPARKLAAGWERYV", "indel", "p.[Gln8Ala;Ala14del]"),
        ("GHIKFCDEGHIKFCDEGHIK", "unrelated", ""),
        ("MSTNPKPQ", "indel", "p.Arg9Ter"),
        ("M", "indel", "p.Ser2Ter"),
        ("MSTNPKPW", "unrelated", ""),
    ],
)
def test_each_kind_of_change_is_called_as_HGVS_writes_it(mutant, kind, hgvs):
    call = call_mutant(WT, mutant)
    assert (call.kind, call.hgvs) == (kind, hgvs)


def test_only_a_single_substitution_has_a_position():
    assert call_mutant(WT, "MSTNAKPQRKLAAAGWERYV").position == 5
    assert call_mutant(WT, "MSTNAKPQRKLAAAGWERYA").position is None
    assert call_mutant(WT, WT).position is None


def test_a_deletion_made_up_for_by_an_insertion_is_an_indel_not_a_row_of_substitutions():
    wt = "MSTNPKPQRKLAAAGWERYVCDEFGHIKLM" * 3
    call = call_mutant(wt, wt[:10] + wt[11:70] + "W" + wt[70:])
    assert call.kind == "indel"
    assert call.hgvs == "p.[Leu11del;Lys70_Leu71insTrp]"
    assert len(call.changes) == 2


def test_any_single_substitution_anywhere_is_found_again():
    draw = random.Random(0)
    for _ in range(300):
        wt = "".join(draw.choices(AMINO_ACIDS, k=draw.randint(2, 60)))
        position, residue = draw.randrange(len(wt)), draw.choice(AMINO_ACIDS)
        if wt[position] == residue:
            continue
        call = call_mutant(wt, wt[:position] + residue + wt[position + 1 :])
        assert call.changes == (Change(position + 1, wt[position], residue),)
        assert call.hgvs == f"p.{THREE_LETTERS[wt[position]]}{position + 1}{THREE_LETTERS[residue]}"


def test_the_changes_of_any_mutant_carried_out_on_the_wild_type_make_the_mutant():
    draw = random.Random(1)
    for _ in range(300):
        wt = "".join(draw.choices("ACDE", k=draw.randint(30, 60)))
        mutant = list(wt)
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(mutant))
            mutant[at : at + draw.randint(0, 2)] = draw.choices("ACDE", k=draw.randint(0, 2))
        call = call_mutant(wt, "".join(mutant))
        if call.kind == "unrelated":
            continue
        rebuilt = wt
        for change in reversed(call.changes):
            start = change.start - 1 if change.wt else change.start
            rebuilt = rebuilt[:start] + change.mutant + rebuilt[start + len(change.wt) :]
        assert rebuilt == "".join(mutant)
