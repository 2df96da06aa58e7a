"""stateshift protein embed as a user runs it: a FASTA in, a store or a pickle out, killed and gone on with."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from stateshift.errors import StateshiftError
from stateshift.proteins import EmbeddingStore, embed_sequences, load_esm2
from stateshift.proteins.embed_file import embed_fasta


@pytest.fixture
def proteins(tmp_path, protein_maker):
    """Id → sequence of a FASTA at tmp_path / x.fasta; one is read in windows, two are the same."""
    sequences = {f"p{n}": protein_maker(n, seed=n) for n in (1100, 300, 310, 40, 7)} | {
        "twin": protein_maker(40, seed=40)
    }
    (tmp_path / "x.fasta").write_text("".join(f">{name} made\n{text}\n" for name, text in sequences.items()))
    return sequences


@pytest.fixture(scope="module")
def rows_of():
    """Rows by fair-esm's network, one protein after the other."""
    fallback = load_esm2(engine="fair-esm")
    return lambda sequences, layer=-1: dict(embed_sequences(fallback, sequences, layer=layer, tokens_per_batch=1024))


def test_both_levels_of_every_protein_lie_in_the_store(tmp_path, proteins, rows_of):
    embedded = embed_fasta(tmp_path / "x.fasta", tmp_path / "x.h5", level="both")
    assert (embedded.path, embedded.ids, embedded.width) == (tmp_path / "x.h5", 6, 128)
    expected = rows_of(proteins)
    with EmbeddingStore(tmp_path / "x.h5") as store:
        assert store.ids == list(proteins)
        assert store.settings["layer"] == 4
        for name in proteins:
            np.testing.assert_allclose(store.residue(name), expected[name].residues, atol=2e-5)
            np.testing.assert_allclose(store.protein(name), store.residue(name).mean(0, dtype=float), atol=1e-6)
        np.testing.assert_array_equal(store.residue("twin"), store.residue("p40"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.fasta", "x.h5"]


def test_a_pickle_holds_the_same_as_arrays_by_id_and_level(tmp_path, proteins, rows_of):
    embed_fasta(tmp_path / "x.fasta", tmp_path / "x.pkl", level="both", layer=2, pooling="max")
    with open(tmp_path / "x.pkl", "rb") as handle:
        content = pickle.load(handle)
    assert list(content) == list(proteins)
    expected = rows_of(proteins, layer=2)
    for name, sequence in proteins.items():
        assert set(content[name]) == {"residue", "protein"}
        assert content[name]["residue"].shape == (len(sequence), 128)
        np.testing.assert_allclose(content[name]["residue"], expected[name].residues, atol=2e-5)
        np.testing.assert_allclose(content[name]["protein"], expected[name].residues.max(0), atol=2e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.fasta", "x.pkl"]


def test_the_pooling_is_weighted_by_a_table(tmp_path, proteins, rows_of):
    lines = ["id,position,weight"]
    for name, sequence in proteins.items():
        lines += [f"{name},1,1", f"{name},{len(sequence)},3"]
    (tmp_path / "w.csv").write_text("\n".join(lines))
    embed_fasta(tmp_path / "x.fasta", tmp_path / "x.h5", pooling="weighted", weights=tmp_path / "w.csv")
    expected = rows_of(proteins)
    with EmbeddingStore(tmp_path / "x.h5") as store:
        for name in proteins:
            residues = expected[name].residues
            np.testing.assert_allclose(store.protein(name), (residues[0] + 3 * residues[-1]) / 4, atol=2e-5)


def test_the_fallback_engine_comes_to_the_same(tmp_path, proteins):
    for engine in ("stateshift", "fair-esm"):
        embed_fasta(tmp_path / "x.fasta", tmp_path / f"{engine}.h5", engine=engine)
    with EmbeddingStore(tmp_path / "stateshift.h5") as ours, EmbeddingStore(tmp_path / "fair-esm.h5") as theirs:
        np.testing.assert_allclose(ours.proteins(), theirs.proteins(), atol=1e-5)
        assert np.any(ours.proteins() != theirs.proteins())


def test_what_exists_is_not_overwritten_and_a_name_that_says_no_format_is_refused(tmp_path, proteins):
    (tmp_path / "x.h5").write_text("mine")
    with pytest.raises(StateshiftError, match="exists already"):
        embed_fasta(tmp_path / "x.fasta", tmp_path / "x.h5")
    assert (tmp_path / "x.h5").read_text() == "mine"
    with pytest.raises(StateshiftError, match=r"name it \.h5 .* or \.pkl"):
        embed_fasta(tmp_path / "x.fasta", tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"level": "proteins"}, "did you mean `protein`"),
        ({"pooling": "average"}, "is no pooling"),
        ({"pooling": "weighted"}, "--weights"),
        ({"level": "residue", "pooling": "max"}, "pooling `max` makes protein vectors, and residue rows alone"),
        ({"layer": 9}, "layers 0 to 4"),
        ({"tokens_per_batch": 100}, "at least 1024 tokens"),
        ({"checkpoint": "esm2_8M"}, "did you mean `esm2_t6_8M_UR50D`"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_anything_is_written(tmp_path, proteins, options, told):
    with pytest.raises(StateshiftError, match=told):
        embed_fasta(tmp_path / "x.fasta", tmp_path / "x.h5", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["x.fasta"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (">a\nMKV\n>a\nMKL\n", "`a` names two different sequences"),
        (">gene\nATGGCCTTAGACCGTATTGCCAATTGG\n", "`gene` reads like DNA"),
        (">rna\nAUGGCCUUAGACCGUAUUGCCAAUUGG\n", "`rna` reads like DNA"),
        (">a\nMK*V\n>b\n>c\nM--V\n", "3 problems"),
    ],
)
def test_sequences_that_are_no_proteins_are_refused(tmp_path, text, told):
    (tmp_path / "x.fasta").write_text(text)
    with pytest.raises(StateshiftError, match=told):
        embed_fasta(tmp_path / "x.fasta", tmp_path / "x.h5")


def test_a_record_that_is_there_twice_counts_once(tmp_path):
    (tmp_path / "x.fasta").write_text(">a\nMKV\n>b\nMKL\n>a again\nmkv*\n")
    assert embed_fasta(tmp_path / "x.fasta", tmp_path / "x.h5").ids == 2


KILLED = """
    import os, signal, sys
    from stateshift.proteins.store import fill, writer
    from stateshift.proteins.embed_file import embed_fasta

    left = int(sys.argv[3])
    embed_group = fill.embed_group

    def counted(esm, texts, group, layer):
        for number, rows in embed_group(esm, texts, group, layer):
            print(texts[number], flush=True)
            yield number, rows

    put = writer.StoreWriter._put

    def dying(self, place, content):
        global left
        left -= 1
        if left == 0:
            put(self, place, content[: len(content) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        put(self, place, content)

    fill.embed_group, writer.StoreWriter._put = counted, dying
    embed_fasta(sys.argv[1], sys.argv[2], level="both", tokens_per_batch=1024)
"""


def test_a_run_killed_in_the_middle_of_a_write_goes_on_and_computes_only_what_was_not_whole(
    tmp_path, proteins, rows_of
):
    """Four writes a protein: its rows, their checksum, its vector, that one's checksum; the sixth is a checksum."""
    if not hasattr(os, "posix_fallocate"):
        pytest.skip("kills by signal are for POSIX systems")
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / "x.fasta"), str(tmp_path / "x.h5")]
    first = subprocess.run([*command, "6"], capture_output=True, text=True, check=False)
    assert first.returncode == -signal.SIGKILL, first.stderr
    assert not (tmp_path / "x.h5").exists()
    second = subprocess.run([*command, "-1"], capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr
    whole = first.stdout.split()[:1]
    assert sorted(whole + second.stdout.split()) == sorted(set(proteins.values()))
    expected = rows_of(proteins)
    with EmbeddingStore(tmp_path / "x.h5") as store:
        for name in proteins:
            np.testing.assert_allclose(store.residue(name), expected[name].residues, atol=2e-5)
            np.testing.assert_allclose(store.protein(name), expected[name].residues.mean(0), atol=2e-5)


def test_another_pooling_does_not_go_on_with_unfinished_work(tmp_path, proteins):
    from stateshift.proteins import Recipe, StoreWriter

    part = tmp_path / "x.h5.part"
    esm = load_esm2()
    StoreWriter(part, proteins, Recipe(pooling="max").settings(esm), model=esm.name, width=128).close()
    with pytest.raises(StateshiftError, match="pooling max instead of mean: say the same to go on, or delete it"):
        embed_fasta(tmp_path / "x.fasta", tmp_path / "x.h5")


def test_two_processes_fill_one_store_as_one_process_does(tmp_path, proteins):
    embed_fasta(tmp_path / "x.fasta", tmp_path / "one.h5", level="both", tokens_per_batch=1024)
    script = tmp_path / "two.py"
    script.write_text(
        "import sys\nfrom stateshift.proteins.embed_file import embed_fasta\n"
        "if __name__ == '__main__':\n"
        "    print(embed_fasta(sys.argv[1], sys.argv[2], level='both', tokens_per_batch=1024, devices=2))\n"
    )
    command = [sys.executable, str(script), str(tmp_path / "x.fasta"), str(tmp_path / "two.h5")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("Embedded(") == 1
    with EmbeddingStore(tmp_path / "one.h5") as one, EmbeddingStore(tmp_path / "two.h5") as two:
        assert (one.ids, one.settings) == (two.ids, two.settings)
        for name in proteins:
            np.testing.assert_allclose(one.residue(name), two.residue(name), atol=1e-6)
            np.testing.assert_allclose(one.protein(name), two.protein(name), atol=1e-6)


def test_a_pooling_that_is_none_is_refused_before_a_model_is_loaded(tmp_path, proteins, monkeypatch):
    monkeypatch.setattr("stateshift.proteins.embed_file.load_esm2", lambda *_, **__: pytest.fail("it was loaded"))
    for options in ({"pooling": "weighted"}, {"pooling": "average"}, {"level": "residue", "pooling": "average"}):
        with pytest.raises(StateshiftError, match="pooling"):
            embed_fasta(tmp_path / "x.fasta", tmp_path / "x.h5", **options)
