"""Which homologs are found and which contexts drawn; never a protein's own sequence."""

from __future__ import annotations

import shutil
import sys
from collections import Counter

import numpy as np
import pytest

from stateshift.errors import StateshiftError
from stateshift.rag_esm.homologs.alignment import expected, identity
from stateshift.rag_esm.homologs.choice import CHOICES, Contexts
from stateshift.rag_esm.homologs.clusters import Cluster
from stateshift.rag_esm.homologs.retrieval import find_homologs, write_homologs

HAS_MMSEQS = pytest.mark.skipif(shutil.which("mmseqs") is None, reason="MMseqs2 is not installed")


@pytest.fixture
def database(family_maker):
    """Six families of five, under names of family and rank; p00twin is p00 again."""
    found = {f"p{f}{i}": s for f in range(6) for i, s in enumerate(family_maker(f, length=60))}
    return found | {"p00twin": found["p00"]}


@pytest.mark.parametrize("by", ["alignment", pytest.param("mmseqs", marks=HAS_MMSEQS), "embedding"])
def test_the_family_is_found_and_neither_the_protein_itself_nor_its_twin(database, by):
    queries = {name: database[name] for name in ("p00", "p30")}
    found = find_homologs(queries, database, by=by, top_k=2)
    assert [h.name for h in found["p00"]] == ["p01", "p02"]
    assert [h.name for h in found["p30"]] == ["p31", "p32"]


@HAS_MMSEQS
def test_the_score_of_mmseqs_is_identity_over_the_shorter_length(database):
    (hit,) = find_homologs({"p00": database["p00"]}, database, by="mmseqs", top_k=1)["p00"]
    assert hit.score == pytest.approx(identity(database["p00"], hit.sequence), abs=0.03)
    assert hit.score > 0.5


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """An ``mmseqs`` that does what the shell lines given to it say."""

    def put(lines: str) -> None:
        program = tmp_path / "bin" / "mmseqs"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n{lines}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent), prepend=":")

    return put


def test_hits_of_mmseqs_go_by_identity_over_the_shorter_length_under_their_own_names(stand_in):
    queries = {"a|b c": "MKVLAGWERT"}
    database = {"a|b c": "MKVLAGWERT", "short hit": "MKVLAGWERTSPQAG", "long hit": "MKVLAGWERS"}
    stand_in(
        'test "$1 $8" = "easy-search query,target,nident,qlen,tlen" && test "$(grep -c "^>[0-2]$" "$3")" = 3 || exit 2\n'
        'printf "0\\t0\\t10\\t10\\t10\\n0\\t1\\t4\\t10\\t15\\n0\\t2\\t9\\t10\\t10\\n" > "$4"'
    )
    found = find_homologs(queries, database, by="mmseqs")
    assert [(h.name, h.score) for h in found["a|b c"]] == [("long hit", 0.9), ("short hit", 0.4)]


def test_what_mmseqs_fails_with_is_said_and_so_is_its_absence(stand_in, monkeypatch, tmp_path, database):
    stand_in("echo 'Input q.fasta is too small' >&2; exit 1")
    with pytest.raises(StateshiftError, match=r"MMseqs2 failed: Input q\.fasta is too small"):
        find_homologs({"p00": "MK"}, database, by="mmseqs")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StateshiftError, match="MMseqs2 is not installed .* use --by alignment, or install it"):
        find_homologs({"p00": "MK"}, database, by="mmseqs")


def test_a_stranger_has_no_homolog_by_alignment(database):
    assert find_homologs({"w": "W" * 40}, database) == {"w": []}


def test_identity_is_that_of_the_shorter_sequence():
    assert identity("MKVLAGWERTSPQ", "MKVLAGWERTSPQ") == 1
    assert identity("MKVLAGWERT", "GGGGGMKVLAGWERTGGG") == 1
    assert identity("MKVLAGWERT", "MKVLACWERT") == pytest.approx(0.9)


def test_an_unknown_way_or_an_empty_database_is_refused(database):
    with pytest.raises(StateshiftError, match="did you mean `alignment`"):
        find_homologs({"p00": "MK"}, database, by="alignement")
    with pytest.raises(StateshiftError, match="database with sequences"):
        find_homologs({"p00": "MK"}, {})


@pytest.fixture
def cluster(family_maker):
    """Forty aligned relatives in disorder; the last is a twin of the first."""
    members = family_maker(1, members=9, length=40)
    near = [members[0][:i] + "W" + members[0][i + 1 :] for i in range(1, 31)]
    sequences = (members[0], *members[:0:-1], *near, members[0])
    return Cluster("c", tuple(map(str, range(len(sequences)))), sequences, sequences)


@pytest.mark.parametrize("choice", CHOICES)
def test_no_choice_shows_a_protein_itself_or_its_twin(cluster, choice):
    rng = np.random.default_rng(0)
    drawn = [Contexts(choice, 3).draw(cluster, 0, rng) for _ in range(100)]
    assert not {0, len(cluster) - 1} & set(drawn)


def test_choices_reach_as_far_down_the_ranks_as_they_say(cluster):
    rng = np.random.default_rng(0)
    ranked = Contexts("nearest").ranked(cluster, 0).tolist()
    rank = {member: r for r, member in enumerate(ranked)}
    furthest = {}
    for choice in CHOICES:
        ranks = [rank[Contexts(choice, 5).draw(cluster, 0, rng)] for _ in range(300)]
        furthest[choice] = max(ranks)
        if choice == "exponential":
            share = Counter(ranks)[0] / 300
            assert share == pytest.approx((1 - np.exp(-1 / 5)) / (1 - np.exp(-len(ranked) / 5)), abs=0.08)
    assert furthest["nearest"] == 0
    assert furthest["nearest-tenth"] == -(-len(ranked) // 10) - 1
    assert furthest["top-k"] == 4
    assert furthest["random"] == len(ranked) - 1


def test_old_rankings_make_way_for_new_ones(cluster, monkeypatch):
    monkeypatch.setattr("stateshift.rag_esm.homologs.choice.MOST_RANKED", 2 * len(cluster))
    contexts = Contexts("nearest")
    ranked = [contexts.ranked(cluster, member).tolist() for member in (0, 1, 2, 0)]
    assert ranked[3] == ranked[0]
    assert [member for _, member in contexts._ranked] == [2, 0]


def test_unaligned_members_are_ranked_by_pairwise_alignment(family_maker):
    members = family_maker(2, members=5, length=60)
    cluster = Cluster("c", tuple("abcde"), (members[3], members[0], members[4], members[1], members[2]))
    by_identity = sorted((0, 2, 3, 4), key=lambda i: -identity(cluster.sequences[1], cluster.sequences[i]))
    assert Contexts("nearest").ranked(cluster, 1).tolist() == by_identity == [3, 4, 0, 2]


def test_a_family_of_twins_is_refused_by_name():
    with pytest.raises(StateshiftError, match="Cluster `c` has no other sequence than `a`"):
        Contexts().draw(Cluster("c", ("a", "b"), ("MK", "MK")), 0, np.random.default_rng(0))


def test_proteins_too_long_for_16_bit_scores_are_aligned_all_the_same(protein_maker):
    long = protein_maker(9000)
    assert identity(long, "M" + long[1:]) >= 8999 / 9000


def test_the_e_value_is_karlins_and_altschuls_of_the_best_local_alignment(monkeypatch):
    # WWWWC aligned with itself scores 4 · 11 + 9
    by_hand = 0.041 * 7 * 1000 * np.exp(-0.267 * 53)
    assert expected("PWWWWCP", "GGWWWWCGG", 1000) == pytest.approx(by_hand)
    pytest.importorskip("Bio")
    monkeypatch.setitem(sys.modules, "parasail", None)
    assert expected("PWWWWCP", "GGWWWWCGG", 1000) == pytest.approx(by_hand)


def test_proteins_of_chance_are_nobodys_homologs(protein_maker):
    database = {f"d{i}": protein_maker(120, i) for i in range(300)}
    queries = {f"q{i}": protein_maker(120, 1000 + i) for i in range(20)}
    assert not any(find_homologs(queries, database).values())


def test_homologs_by_embedding_come_from_the_esm2_that_is_named(tmp_path, protein_maker):
    fasta = tmp_path / "p.fasta"
    fasta.write_text(f">a\n{protein_maker(20)}\n>b\n{protein_maker(20, 1)}\n")
    with pytest.raises(StateshiftError, match=r"nowhere\.pt"):
        write_homologs(fasta, fasta, tmp_path / "h", by="embedding", checkpoint=tmp_path / "nowhere.pt")
    write_homologs(fasta, fasta, tmp_path / "h", by="embedding")
    assert (tmp_path / "h" / "homologs.csv").read_text().splitlines()[1].startswith("a,b,")
