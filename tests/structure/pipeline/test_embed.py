"""The pipeline: every way in equals the Python API, failures stay with their structure, a second run does the rest."""

from __future__ import annotations

import csv
import json

import numpy as np
import pandas as pd
import pytest
import torch

from stateshift.errors import StateshiftError
from stateshift.structure import StructureEmbedding
from stateshift.structure.parsing import read_chains
from stateshift.structure.pipeline import (
    Machine,
    Models,
    Output,
    Reading,
    Stage,
    embed,
    embed_complete,
    read_vectors,
)
from stateshift.structure.pipeline import commands as commands_module
from stateshift.structure.residues import read_residues

CPU = Machine(batch_size=2, accelerator="cpu")
SEQUENCES = {"A": "MKVLAGSTRWYVQEDN", "B": "GGSLLKKDEAPW"}


@pytest.fixture
def models(aggregator_file):
    return Models(aggregator=aggregator_file)


@pytest.fixture
def folder(tmp_path, write_pdb):
    """Three structures: two chains, one chain, and one that is a web page."""
    place = tmp_path / "structures"
    place.mkdir()
    write_pdb("structures/both.pdb", SEQUENCES)
    write_pdb("structures/single.pdb", {"A": "ACDEFGHIKLMNP"})
    (place / "page.cif").write_text("<html>not found</html>")
    return place


@pytest.fixture
def expected(folder, aggregator_file):
    """Vectors by the Python API, chain by chain."""
    model = StructureEmbedding(aggregator_file)
    return {
        f"{name}.{chain.label}": model.aggregate(
            model.residue_embedding(folder / f"{name}.pdb", chain_id=chain.label)
        ).numpy()
        for name in ("both", "single")
        for chain in read_chains(folder / f"{name}.pdb")
    }


def same(got, expected):
    assert set(got) == set(expected)
    for name, vector in expected.items():
        np.testing.assert_allclose(got[name], vector, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("file_type", ["pt", "parquet", "csv"])
@pytest.mark.parametrize("form", ["separated", "grouped"])
def test_chains_in_every_form_equal_the_python_api(folder, models, expected, tmp_path, form, file_type):
    output = Output(tmp_path / "out", "all", form, file_type)
    summary = embed("chains", folder, output, models, machine=CPU)
    assert summary.results == 3
    files = [output.grouped_file] if form == "grouped" else [output.single_file(name) for name in expected]
    same({k: v for file in files for k, v in read_vectors(file).items()}, expected)
    assert "is a web page" in summary.failures["page"]
    with (tmp_path / "out" / "all.failures.csv").open() as lines:
        (line,) = csv.DictReader(lines)
    assert (line["job"], "is a web page" in line["failure"]) == ("page", True)
    assert not list((tmp_path / "out").glob(".*"))


def test_residues_then_chains_from_the_stored_tensors(folder, models, expected, tmp_path):
    embed("residues", folder, Output(tmp_path / "rows", "residues"), models, machine=CPU)
    rows = read_residues(tmp_path / "rows" / "both.B.pt")
    assert rows.shape == (12, 128)
    stored = Reading(residue_location=str(tmp_path / "rows"))
    good = tmp_path / "good.csv"
    good.write_text("both,structures/both.pdb,,\nsingle,structures/single.pdb,A,\n")
    embed("chains", good, Output(tmp_path / "a", "v", "grouped"), models, stored, CPU)
    same(read_vectors(tmp_path / "a" / "v.pt"), expected)
    # what a kill amid writing leaves is not taken for a tensor
    (tmp_path / "rows" / ".both.A.12.part.pt").write_bytes(b"")
    embed("chains", None, Output(tmp_path / "b", "v", "grouped"), models, stored, CPU)
    same(read_vectors(tmp_path / "b" / "v.pt"), expected)


def test_an_assembly_is_its_chains_end_to_end(shared_data, models, aggregator_file, tmp_path):
    path = shared_data / "structure" / "esm3" / "1acb.cif"
    embed("assemblies", path, Output(tmp_path, "v", "grouped"), models, machine=CPU)
    model = StructureEmbedding(aggregator_file)
    rows = torch.cat([model.residue_embedding(path, "mmcif", label) for label in "AB"])
    assert len(rows) == 304
    same(read_vectors(tmp_path / "v.pt"), {"1acb.1": model.aggregate(rows).numpy()})


def test_complete_writes_all_three_and_a_fasta_has_no_assemblies(shared_data, models, tmp_path):
    def stages(root):
        return [Stage(Output(root / n, n, *more)) for n, more in (("r", ()), ("c", ("grouped",)), ("a", ("grouped",)))]

    done = embed_complete(shared_data / "structure" / "esm3" / "1acb.cif", *stages(tmp_path / "x"), models, machine=CPU)
    assert {level: one.results for level, one in done.items()} == {"residues": 2, "chains": 2, "assemblies": 1}
    assert set(read_vectors(tmp_path / "x" / "c" / "c.pt")) == {"1acb.A", "1acb.B"}
    fasta = shared_data / "structure" / "esm3" / "test_sequences.fasta"
    done = embed_complete(fasta, *stages(tmp_path / "y"), models, machine=CPU)
    assert {level: one.results for level, one in done.items()} == {"residues": 2, "chains": 2}
    one = Stage(Output(tmp_path / "z", "r"))
    with pytest.raises(StateshiftError, match="need a folder of their own"):
        embed_complete(fasta, one, one, one, models)


def test_complete_takes_chains_of_a_table_under_its_names_and_every_assembly(shared_data, models, tmp_path):
    table = tmp_path / "t.csv"
    file = shared_data / "structure" / "esm3" / "1acb.cif"
    table.write_text(f"1acb,{file},B,inhibitor\n1acb,{file},,whole\n")
    stages = [
        Stage(Output(tmp_path / n, n, *more)) for n, more in (("r", ()), ("c", ("grouped",)), ("a", ("grouped",)))
    ]
    done = embed_complete(table, *stages, models, machine=CPU)
    assert {level: one.failures for level, one in done.items()} == {"residues": {}, "chains": {}, "assemblies": {}}
    assert {file.name for file in (tmp_path / "r").glob("*.pt")} == {"1acb.A.pt", "1acb.B.pt"}
    vectors = read_vectors(tmp_path / "c" / "c.pt")
    assert set(vectors) == {"inhibitor", "whole.A", "whole.B"}
    np.testing.assert_array_equal(vectors["inhibitor"], vectors["whole.B"])
    assert set(read_vectors(tmp_path / "a" / "a.pt")) == {"1acb.1"}
    table.write_text(f"1acb,{file},A,\n1acb,{tmp_path / 't.csv'},A,other\n")
    with pytest.raises(StateshiftError, match=r"several structures \(1acb\)"):
        embed_complete(table, *stages, models, machine=CPU)


def test_tensors_that_a_table_named_are_found_by_the_same_table(folder, models, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("both,structures/both.pdb,B,second\nboth,structures/both.pdb,,all\n")
    embed("residues", table, Output(tmp_path / "r", "r"), machine=CPU)
    reading = Reading(residue_location=str(tmp_path / "r"))
    for place, read in (("stored", reading), ("fresh", None)):
        embed("chains", table, Output(tmp_path / place, "v", "grouped"), models, read, CPU)
    stored, fresh = (read_vectors(tmp_path / place / "v.pt") for place in ("stored", "fresh"))
    assert set(stored) == {"second", "all.A", "all.B"}
    same(stored, fresh)


def test_stored_tensors_of_a_name_are_not_those_of_a_longer_one(models, tmp_path):
    for name in ("x.A", "x.v2.A"):
        torch.save(torch.ones(3, 128), tmp_path / f"{name}.pt")
    (tmp_path / "x.pdb").write_text("ATOM")
    reading = Reading(residue_location=str(tmp_path))
    embed("chains", tmp_path / "x.pdb", Output(tmp_path / "out", "v", "grouped"), models, reading, CPU)
    assert set(read_vectors(tmp_path / "out" / "v.pt")) == {"x.A"}


def test_esm3_tensors_of_the_rcsb_tool_become_vectors_by_an_aggregator_of_their_width(shared_data, tmp_path):
    from stateshift.structure.aggregator import Aggregator, AggregatorShape, aggregate

    torch.manual_seed(0)
    model = Aggregator(AggregatorShape(feedforward=64, layers=1, blocks=1)).eval()
    torch.save(model.state_dict(), tmp_path / "flat.pt")
    place = shared_data / "structure" / "esm3"
    summary = embed(
        "chains", None, Output(tmp_path, "v", "grouped"), Models(aggregator=tmp_path / "flat.pt"),
        Reading(residue_location=str(place)), CPU,
    )  # fmt: skip
    assert summary.results == 2
    rows = [read_residues(place / f"1acb.{chain}.pt") for chain in "AB"]
    same(read_vectors(tmp_path / "v.pt"), dict(zip(("1acb.A", "1acb.B"), aggregate(model, rows).numpy())))


@pytest.mark.parametrize("form", ["separated", "grouped"])
def test_a_run_that_was_stopped_goes_on_and_does_nothing_twice(folder, models, expected, tmp_path, monkeypatch, form):
    output = Output(tmp_path / "out", "all", form)
    real, calls = commands_module.predict, []

    def stopped(jobs, *more):
        calls.append([job.key for job in jobs])
        real(jobs[:1], *more)
        raise KeyboardInterrupt

    monkeypatch.setattr(commands_module, "predict", stopped)
    with pytest.raises(KeyboardInterrupt):
        embed("chains", folder, output, models, machine=CPU)
    monkeypatch.setattr(
        commands_module, "predict", lambda jobs, *more: calls.append([j.key for j in jobs]) or real(jobs, *more)
    )
    summary = embed("chains", folder, output, models, machine=CPU)
    assert calls == [["both", "page", "single"], ["page", "single"]]
    assert summary.results == 3
    same({k: v for f in (tmp_path / "out").glob("*.pt") for k, v in read_vectors(f).items()}, expected)


def test_new_structures_join_separated_results_and_failed_ones_are_tried_again(folder, models, tmp_path, write_pdb):
    output = Output(tmp_path / "out", "all")
    embed("chains", folder, output, models, machine=CPU)
    before = (tmp_path / "out" / "both.A.pt").stat().st_mtime_ns
    (folder / "page.cif").unlink()
    (tmp_path / "out" / "single.A.pt").unlink()
    write_pdb("structures/page.pdb", {"A": "MKVLAG"})
    summary = embed("chains", folder, output, models, machine=CPU)
    assert (summary.results, summary.failures) == (4, {})
    assert (tmp_path / "out" / "both.A.pt").stat().st_mtime_ns == before
    assert (tmp_path / "out" / "single.A.pt").is_file()
    assert not (tmp_path / "out" / "all.failures.csv").exists()
    assert sorted(json.loads((tmp_path / "out" / "all.json").read_text())["results"]) == ["both", "page", "single"]


def test_other_settings_and_grouped_files_that_lack_something_are_refused(folder, models, tmp_path):
    output = Output(tmp_path / "out", "all", "grouped")
    embed("chains", folder / "both.pdb", output, models, machine=CPU)
    with pytest.raises(StateshiftError, match=r"of other settings \(min_residues\)"):
        embed("chains", folder / "both.pdb", output, models, Reading(min_residues=13), CPU)
    with pytest.raises(StateshiftError, match="exists and lacks single"):
        embed("chains", folder / "single.pdb", output, models, machine=CPU)
    output.grouped_file.unlink()
    assert embed("chains", folder / "both.pdb", output, models, machine=CPU).results == len(
        read_vectors(output.grouped_file)
    )


def test_chain_tables_limits_and_traces_fail_alone(folder, models, tmp_path, write_pdb):
    write_pdb("structures/trace.pdb", {"A": "MKVLA"}, atoms=("CA",))
    table = tmp_path / "t.csv"
    table.write_text(
        "both,structures/both.pdb,Z,missing\nboth,structures/both.pdb,B,short\nboth,structures/both.pdb,A,fits\n"
        "trace,structures/trace.pdb,A,trace\n"
    )
    summary = embed(
        "chains", table, Output(tmp_path / "out", "v"), models, Reading(min_residues=5, max_residues=10), CPU
    )
    assert "there are A, B" in summary.failures["missing"]
    assert "has 12 residues, not 5 to 10" in summary.failures["short"]
    assert summary.results == 1
    rows = embed("residues", table, Output(tmp_path / "rows", "r"), Models(geometry=True), machine=CPU)
    assert rows.results == 2
    assert "holds CA atoms alone" in rows.failures["trace"]


def test_workers_give_what_one_process_gives(folder, models, expected, tmp_path):
    machine = Machine(batch_size=1, num_workers=2, accelerator="cpu")
    embed("chains", folder, Output(tmp_path / "out", "v", "grouped", "parquet"), models, machine=machine)
    same(read_vectors(tmp_path / "out" / "v.parquet"), expected)
    frame = pd.read_parquet(tmp_path / "out" / "v.parquet")
    assert list(frame.columns[:3]) == ["name", "0", "1"]


def test_an_aggregator_takes_only_the_rows_that_it_was_trained_on(folder, models, tmp_path):
    embed("residues", folder, Output(tmp_path / "rows", "r"), Models(geometry=True), machine=CPU)
    with pytest.raises(
        StateshiftError, match="was trained on rows of stateshift-demo-esm2, these are of .* with geometry"
    ):
        embed(
            "chains", None, Output(tmp_path / "v", "v"), models, Reading(residue_location=str(tmp_path / "rows")), CPU
        )


def test_devices_that_this_machine_lacks_are_told(folder, models, tmp_path):
    for accelerator, devices in (("abacus", ("1",)), ("cpu", ("7", "9"))):
        machine = Machine(accelerator=accelerator, devices=devices)
        with pytest.raises(StateshiftError, match=f"accelerator={accelerator} devices=.* can't be had here"):
            embed("chains", folder / "both.pdb", Output(tmp_path / "out", "v"), models, machine=machine)


def test_options_that_cannot_be_are_told_in_command_line_words(tmp_path):
    with pytest.raises(StateshiftError, match="--output-format grupped is none.*did you mean `grouped`"):
        Output(tmp_path, "x", "grupped")
    with pytest.raises(StateshiftError, match="--devices takes `auto` or numbers"):
        Machine(devices=("cuda",))
    with pytest.raises(StateshiftError, match="--batch-size can't be 0"):
        Machine(batch_size=0)
    assert Machine(devices=("0", "2")).trainer_options()["devices"] == [0, 2]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"v": {}}, "v holds no vectors"),
        ({"v.pt": None}, "there is no such file of vectors"),
        ({"v.cvs": "name,0\na,1\n"}, "is no file of vectors .did you mean `csv`"),
        ({"v.pt": "not a tensor"}, "can't be read safely"),
        ({"v.csv": "name,residue,0\na,0,1\n"}, "is no table of vectors"),
        ({"v.csv": "name,0,1\na,1,x\n"}, "can't be read as a table"),
        ({"v.csv": "name,0\n"}, "holds no vectors"),
        ({"v.csv": "name,0\na,1\na,2\n"}, "names twice: a"),
        ({"v.csv": "name,0\na,1\nb,\n"}, "holds NaN or infinity for b"),
        ({"v": {"1.csv": "name,0\na,1\n", "2.csv": "name,0\na,2\n"}}, "vectors of one name in several files: a"),
        ({"v": {"1.csv": "name,0\na,1\n", "2.csv": "name,0,1\nb,2,3\n"}}, "vectors of one width are needed"),
    ],
)
def test_files_that_hold_no_vectors_are_told(tmp_path, files, words):
    ((name, content),) = files.items()
    if isinstance(content, dict):
        (tmp_path / name).mkdir()
        for inner, text in content.items():
            (tmp_path / name / inner).write_text(text)
    elif content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(StateshiftError, match=words):
        read_vectors(tmp_path / name)
