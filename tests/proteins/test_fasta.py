"""What a FASTA file may hold, and how a broken one is refused."""

from __future__ import annotations

import gzip
import logging

import pytest

from stateshift.errors import InputProblems, StateshiftError
from stateshift.proteins.fasta import Protein, fasta_problems, read_fasta, read_sequences


def write(path, text):
    path.write_text(text)
    return path


def test_ids_descriptions_and_sequences_over_several_lines_are_read(tmp_path):
    path = write(tmp_path / "a.fasta", ">sp|P1|A_HUMAN OS=Homo GN=A1\nMKV\nLLA\n\n>second\nGG WW\n")
    assert read_fasta(path) == [
        Protein("sp|P1|A_HUMAN", "OS=Homo GN=A1", "MKVLLA"),
        Protein("second", "", "GGWW"),
    ]


def test_a_gzipped_file_reads_as_its_plain_text_under_any_name(tmp_path):
    text = ">a one\nMKV\n>b two\nLLA\n"
    plain = read_fasta(write(tmp_path / "a.fasta", text))
    for name in ("a.fasta.gz", "no_suffix"):
        (tmp_path / name).write_bytes(gzip.compress(text.encode()))
        assert read_fasta(tmp_path / name) == plain


def test_windows_line_ends_do_not_reach_the_sequence(tmp_path):
    (tmp_path / "a.fasta").write_bytes(b">a one\r\nMKV\r\nLL\r\n")
    assert read_fasta(tmp_path / "a.fasta") == [Protein("a", "one", "MKVLL")]


def test_lower_case_rises_the_final_stop_goes_and_rare_residues_stay(tmp_path):
    assert read_fasta(write(tmp_path / "a.fasta", ">a\nmkvUOBZX*\n"))[0].sequence == "MKVUOBZX"


def test_J_becomes_X_and_is_counted_in_a_warning(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        proteins = read_fasta(write(tmp_path / "a.fasta", ">a\nMJJV\n>b\njA\n"))
    assert [p.sequence for p in proteins] == ["MXXV", "XA"]
    assert "is read as X, 3 in all" in caplog.text


def test_all_bad_records_are_named_at_once(tmp_path):
    path = write(tmp_path / "a.fasta", ">good\nMKV\n>stop_inside\nMK*V\n>hollow\n>aligned\nM-KV\n>digits\nM1\n")
    with pytest.raises(InputProblems) as caught:
        read_fasta(path)
    assert len(caught.value.problems) == 4
    for name in ("stop_inside", "hollow", "aligned", "digits"):
        assert f"`{name}`" in str(caught.value)
    assert "alignment" in caught.value.problems[2]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no FASTA record"),
        ("\n\n", "holds no FASTA record"),
        ("gene,value\nA,1\n", "line 1 should start a record"),
        (">\nMKV\n", "line 1: a record without a name"),
    ],
)
def test_what_is_no_fasta_is_refused_in_one_sentence(tmp_path, text, told):
    with pytest.raises(StateshiftError, match=told):
        read_fasta(write(tmp_path / "a.fasta", text))


def test_a_few_kilobytes_that_unpack_without_end_are_refused(tmp_path):
    for name, line in {"lines": b"MKVLAAGG" * 8 + b"\n", "one": b"MKVLAAGG"}.items():
        (tmp_path / name).write_bytes(gzip.compress(b">p\n" + line * (12_000_000 // len(line)), compresslevel=1))
        with pytest.raises(StateshiftError, match="record `p` goes on for more than 10,000,000 residues"):
            read_fasta(tmp_path / name)


def test_a_missing_a_binary_and_a_truncated_gzip_file_are_told_apart(tmp_path):
    with pytest.raises(StateshiftError, match="no such FASTA"):
        read_fasta(tmp_path / "absent.fasta")
    with pytest.raises(StateshiftError, match="this is a folder, name a FASTA file in it"):
        read_fasta(tmp_path)
    (tmp_path / "binary.fasta").write_bytes(b">a\n\xff\xfe\x00")
    with pytest.raises(StateshiftError, match="isn't text in UTF-8"):
        read_fasta(tmp_path / "binary.fasta")
    whole = gzip.compress(b">a\n" + b"MKVLLAGG" * 1000)
    (tmp_path / "cut.fasta.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StateshiftError, match="damaged gzip"):
        read_fasta(tmp_path / "cut.fasta.gz")


def test_bad_records_and_ids_of_several_sequences_are_named_in_one_go(tmp_path):
    path = write(tmp_path / "a.fasta", ">dup\nMKV\n>digits\nM1\n>stop\nM*K\n>dup\nMKL\n>same\nMK\n>same\nMK\n")
    with pytest.raises(InputProblems) as caught:
        read_sequences(path)
    assert caught.value.problems == [
        "record `digits` holds '1', no amino acid.",
        "record `stop` holds '*', no amino acid (a stop inside: end the protein there, or leave it out).",
        "`dup` names two different sequences: give each an id of its own.",
    ]
    assert fasta_problems(path) == caught.value.problems


def test_all_problems_are_listed_where_the_refusal_names_twenty(tmp_path):
    path = write(tmp_path / "a.fasta", "".join(f">r{i}\nM1\n" for i in range(30)))
    assert len(fasta_problems(path)) == 30
    with pytest.raises(InputProblems) as caught:
        read_fasta(path)
    assert caught.value.problems[20] == "and 10 more (stateshift protein inspect shows them all)."


def test_a_byte_order_mark_and_a_tab_behind_the_id_do_no_harm(tmp_path):
    path = tmp_path / "a.fasta"
    path.write_bytes(b"\xef\xbb\xbf>a\tone two\nMKV\n")
    assert read_fasta(path) == [Protein("a", "one two", "MKV")]
