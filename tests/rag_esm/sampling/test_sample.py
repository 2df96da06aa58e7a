"""Sampling from files: formats, pairs, what is refused or warned of, and what is written."""

from __future__ import annotations

import csv
import json
import logging

import pytest

from stateshift.errors import InputProblems, StateshiftError
from stateshift.rag_esm.model.checkpoint import save_rag_esm
from stateshift.rag_esm.sampling.inputs import read_masked, read_requests
from stateshift.rag_esm.sampling.sample import _tell_uncorrected, sample
from stateshift.rag_esm.sampling.settings import SamplingSettings


@pytest.fixture
def files(tmp_path, demo_maker, protein_maker):
    """A model, two inputs and two contexts."""
    save_rag_esm(demo_maker("last"), tmp_path / "model")
    (tmp_path / "in.fasta").write_text(">a first\nMK<mask><mask>LA\n--\n>b\n-----\n")
    (tmp_path / "ctx.fasta").write_text(f">c\n{protein_maker(12)}\n>d\n{protein_maker(9, 1)}\n")
    return tmp_path


def options(files, **more):
    return {
        "context": files / "ctx.fasta",
        "masked": files / "in.fasta",
        "settings": SamplingSettings(iterations=3),
        **more,
    }


def test_both_ways_to_write_a_mask_are_read(files):
    assert [p.sequence for p in read_masked(files / "in.fasta")] == ["MK--LA--", "-----"]


def test_a_run_writes_sequences_frames_perplexities_entropies_and_every_setting(files):
    folder = sample(
        files / "model", files / "out", save_intermediate_steps=True, compute_perplexities=True, **options(files)
    )
    names = ["about.json", "contexts.fasta", "entropy.csv", "generated.fasta", "samples.csv", "steps.fasta"]
    assert sorted(f.name for f in folder.iterdir()) == names
    made = (folder / "generated.fasta").read_text().split("\n")
    assert made[0] == ">a context=c"
    assert (made[1][:2], made[1][4:6], len(made[1]), len(made[3])) == ("MK", "LA", 8, 5)
    frames = (folder / "steps.fasta").read_text().split("\n")
    assert frames[:2] == [">a step=0", "MK--LA--"]
    assert frames[7] == made[1]
    rows = list(csv.DictReader((folder / "samples.csv").open()))
    assert [row["generated"] for row in rows] == ["4", "5"]
    assert all(1 < float(row[k]) < 1000 for row in rows for k in ("perplexity_rag_esm", "perplexity_esm2"))
    entropy = [float(r["mean_entropy_nats"]) for r in csv.DictReader((folder / "entropy.csv").open())]
    assert len(entropy) == 3
    assert all(0 < e < 3 for e in entropy)
    told = json.loads((folder / "about.json").read_text())
    assert (told["settings"]["iterations"], told["input"], told["stateshift"] != "") == (3, "in.fasta", True)


def test_frames_end_where_a_protein_is_whole_whatever_the_others_of_its_batch_are(files):
    (files / "in.fasta").write_text(">a\nMK-A\n>b\n------\n")
    for size in (1, 2):
        told = options(files, settings=SamplingSettings(iterations=6), batch_size=size)
        sample(files / "model", files / f"out{size}", save_intermediate_steps=True, **told)
    frames = [(files / f"out{size}" / "steps.fasta").read_text() for size in (1, 2)]
    assert frames[0] == frames[1]
    assert [line for line in frames[0].split() if line.startswith("step")] == [f"step={i}" for i in (0, 1, *range(7))]


def test_a_fixed_length_makes_a_protein_for_each_context(files):
    folder = sample(
        files / "model", files / "out", context=files / "ctx.fasta", fixed_length=7, settings=SamplingSettings(2)
    )
    assert [len(line) for line in (folder / "generated.fasta").read_text().split("\n")[1::2]] == [7, 7]


def test_every_bad_record_is_named(tmp_path):
    (tmp_path / "in.fasta").write_text(">empty\n>bad\nMK1-\n>fine\nMK-\n")
    with pytest.raises(InputProblems) as caught:
        read_masked(tmp_path / "in.fasta")
    assert len(caught.value.problems) == 2
    assert "record `empty` has length 0" in str(caught.value)
    assert "record `bad` holds '1'" in str(caught.value)


def test_files_that_do_not_pair_are_refused(files):
    (files / "one.fasta").write_text(">c\nMKV\n")
    with pytest.raises(StateshiftError, match="holds 2 records and .* 1: .* `b` of .*in.fasta has no partner"):
        read_requests(files / "one.fasta", files / "in.fasta")
    with pytest.raises(StateshiftError, match="one of --input"):
        read_requests(files / "ctx.fasta")
    with pytest.raises(StateshiftError, match="1 or more, not 0"):
        read_requests(files / "ctx.fasta", fixed_length=0)


def test_long_contexts_are_cut_and_solutions_warned_of(files, caplog):
    (files / "ctx.fasta").write_text(">c\nMKVVLAWW\n>d\nMKVLAGW\n")
    with caplog.at_level(logging.WARNING):
        requests = read_requests(files / "ctx.fasta", files / "in.fasta", max_context=7)
    assert [r.context for r in requests] == ["MKVVLAW", "MKVLAGW"]
    assert "Contexts longer than 7 residues are cut there (1 of them): c." in caplog.text
    assert "as if it were the solution: a." in caplog.text


@pytest.mark.parametrize(
    ("start", "told"), [(3, ""), (4, "from iteration 5 on, when 1 of 2 proteins are whole already: a.")]
)
def test_proteins_that_are_whole_before_errors_are_corrected_are_told(files, caplog, start, told):
    requests = read_requests(files / "ctx.fasta", files / "in.fasta")
    caplog.clear()
    _tell_uncorrected(requests, SamplingSettings(error_correction="all-masked", start_error_correction=start))
    assert caplog.messages == ([f"Errors are corrected {told}"] if told else [])


def test_an_output_that_exists_is_kept(files):
    (files / "out").mkdir()
    with pytest.raises(StateshiftError, match="exists already"):
        sample(files / "model", files / "out", **options(files))


def test_the_published_examples_are_sampled(shared_data, files):
    pairs = shared_data / "proteins" / "homolog_pairs"
    folder = sample(
        files / "model", files / "out", context=pairs / "example_context_sequences.fasta",
        masked=pairs / "example_input_sequences.fasta", settings=SamplingSettings(iterations=5),
    )  # fmt: skip
    given = [p.sequence for p in read_masked(pairs / "example_input_sequences.fasta")]
    made = [p.sequence for p in read_masked(folder / "generated.fasta")]
    assert len(made) == 5
    for before, after in zip(given, made, strict=True):
        assert len(before) == len(after)
        assert all(a in ("-", b) for a, b in zip(before, after))
