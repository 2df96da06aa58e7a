"""Both seasons' runbooks, command by command as printed, on stand-ins of what the seasons hand out.

Only these are replaced: downloads and uploads; the numbers of steps and the networks' widths; the number of genes in the
rules, and numbers of cells; the published ESM2 checkpoint by the demo's.
"""

from __future__ import annotations

import glob
import io
import re
import shlex
import tarfile
import tomllib
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import zstandard
from typer.testing import CliRunner

from stateshift.challenge.seasons import competition_folder
from stateshift.cli.main import app
from stateshift.training import compose_config

ELSEWHERE = ("stateshift data get", "vcc datasets download", "unzip", "vcc submit")
REPLACED = {"esm2_t33_650M_UR50D": "stateshift-demo-esm2", "1000": "20"}
SMALL = [
    "training.max_steps=2", "training.val_every=2", "model.hidden=8", "model.ffn=8", "model.heads=2", "model.layers=1",
    "model.encoder_layers=1", "model.decoder_layers=1", "model.set_size=8", "data.batch_size=2",
]  # fmt: skip


def commands(readme: str) -> list[list[str]]:
    """The words of every command in the fenced blocks of a page, lines that go on put together."""
    blocks = re.findall(r"^ *```bash\n(.*?)^ *```", readme, flags=re.M | re.S)
    lines = [line for block in blocks for line in re.sub(r"\\\n", " ", block).splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def run(words: list[str]) -> str:
    """What a command prints, run in this process, its training cut down."""
    words = [w for word in words for w in (sorted(glob.glob(word)) if "*" in word else [word])]
    if words[0] == "create_esm_pert_features":
        words = ["stateshift", "features", "create", "--source", "esm2", *words[1:]]
    words = [REPLACED.get(word, word) for word in words]
    small = SMALL if words[:2] == ["stateshift", "train"] else []
    assert words[0] == "stateshift"
    done = CliRunner().invoke(app, [*words[1:], *small])
    if done.exit_code:
        raise AssertionError(f"{shlex.join(words)}\n{done.exception}\n{done.output}") from done.exception
    return done.output


def follow(season: str) -> dict[str, str]:
    """Every command of a runbook, one after another: what it prints."""
    readme = (competition_folder() / season / "README.md").read_text()
    return {shlex.join(words): run(words) for words in commands(readme) if not shlex.join(words).startswith(ELSEWHERE)}


def inside(vcc: Path) -> ad.AnnData:
    with tarfile.open(vcc) as tar:
        packed = tar.extractfile("pred.h5ad.zst").read()
    plain = vcc.with_suffix(".inside.h5ad")
    plain.write_bytes(zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed)).read())
    return ad.read_h5ad(plain)


@pytest.fixture(scope="module")
def season(tmp_path_factory, makings, season_maker):
    """Makes a season's folder with small rules, goes there, and follows its runbook."""
    patch = pytest.MonkeyPatch()

    def make(name: str, changes: dict[str, str]) -> tuple[Path, dict[str, str]]:
        folder = tmp_path_factory.mktemp(f"season{name}")
        own = season_maker(folder, name, makings, changes)
        patch.setattr("stateshift.challenge.seasons.competition_folder", lambda: folder / "competition")
        patch.setenv("STATESHIFT_CACHE", str(folder / "cache"))
        patch.chdir(own)
        (own / "human.fasta").write_text("".join(f">sp|P|{g} GN={g}\nMKTAYIAKQR\n" for g in makings.trained))
        return own, follow(name)

    yield make
    patch.undo()


@pytest.fixture(scope="module")
def season_2025(season, makings):
    return season("2025", {"genes = 18_080": f"genes = {len(makings.genes)}"})


@pytest.fixture(scope="module")
def season_2026(season, makings):
    return season("2026", {"genes = 18_533": f"genes = {len(makings.genes) + 2}", "each = 400": "each = 12"})


def test_the_runbook_of_2025_leads_to_a_file_with_the_templates_targets_cells_and_controls(season_2025, makings):
    folder, _ = season_2025
    cells = inside(folder / "submission.vcc")
    assert cells.obs["target_gene"].value_counts().to_dict() == {
        "non-targeting": 60,
        **dict.fromkeys(makings.to_predict, 10),
    }
    assert cells.var_names.tolist() == makings.genes
    assert cells.X.max() < 15


def test_the_file_of_2025_holds_predictions_and_no_copies_of_controls(season_2025, makings):
    cells = inside(season_2025[0] / "submission.vcc")
    controls = cells[cells.obs["target_gene"] == "non-targeting"].X.toarray()
    others = cells[cells.obs["target_gene"] != "non-targeting"].X.toarray()
    assert not (others[:, None, :] == controls[None]).all(axis=2).any()


def test_cell_eval_takes_both_files_of_2025_as_they_are(season_2025, makings, tmp_path):
    prep = pytest.importorskip("cell_eval._cli._prep", reason="the official extra is not installed")
    for name in ("submission.vcc", "first_run.vcc"):
        cells, theirs = inside(season_2025[0] / name), tmp_path / name
        prep.strip_anndata(cells.copy(), str(theirs), makings.genes, encoding=32, exp_gene_dim=len(makings.genes))
        np.testing.assert_array_equal(inside(theirs).X.toarray(), cells.X.toarray())


def test_the_packs_own_commands_keep_the_packs_scale(season_2025):
    cells = inside(season_2025[0] / "first_run.vcc")
    template = ad.read_h5ad(season_2025[0] / "competition_support_set" / "competition_val_template.h5ad")
    of_theirs = template[template.obs["target_gene"] == "non-targeting"].X
    of_ours = cells[cells.obs["target_gene"] == "non-targeting"].X.toarray()
    np.testing.assert_array_equal(of_ours, of_theirs)


def test_the_runbook_of_2026_leads_to_a_file_that_vcc_cli_reads(season_2026, makings):
    folder, _ = season_2026
    cells = inside(folder / "submission.vcc")
    sizes = cells.obs.groupby(["context", "target_gene"], observed=True).size()
    assert sizes.to_dict() == {(context, target): 12 for context in "ABC" for target in makings.to_predict}
    assert cells.var_names.tolist() == [*makings.genes, "NEW1", "NEW2"]


def test_vcc_cli_finds_nothing_wrong_with_either_file_of_2026(season_2026):
    vccfile = pytest.importorskip("vcc.vccfile", reason="the official extra is not installed")
    for name in ("submission.vcc", "elsewhere.vcc"):
        vccfile.validate_vcc(season_2026[0] / name)
        assert vccfile.contexts_from_vcc(season_2026[0] / name) == ("A", "B", "C")


@pytest.mark.parametrize("name", ["2025", "2026"])
def test_the_strong_run_differs_from_the_small_one_in_lines_model_and_steps_alone(name):
    folder = competition_folder() / name
    small, strong = (tomllib.loads((folder / f"{size}.toml").read_text()) for size in ("small", "strong"))
    assert strong["run"]["name"] == "strong"
    for tables in (small, strong):
        compose_config([f"model={tables['run']['model']}", *tables["run"]["overrides"]])
        del tables["run"], tables["datasets"]
    assert small == strong


@pytest.mark.parametrize(("name", "other"), [("2025", "2026"), ("2026", "2025")])
def test_the_shortcut_gives_the_commands_of_the_runbook(name, other):
    script = (competition_folder().parent / "scripts" / "challenge").read_text()
    template = "competition_support_set/competition_val_template.h5ad"
    for old, new in (
        ("$season", name),
        ("$template", template),
        ("$size.vcc", "submission.vcc"),
        ("_$size", ""),
        ("$size", "small"),
    ):
        script = script.replace(old, new)
    lines = [line.split("] || ")[-1].strip() for line in re.sub(r"\\\n", " ", script).splitlines()]
    given = [shlex.split(line) for line in lines if line.startswith(("stateshift", "vcc", "unzip"))]
    of_season = [words for words in given if f"--season {other}" not in " ".join(words)]
    if name == "2025":
        of_season = [words for words in of_season if words[0] == "stateshift"]
    told = [sorted(words) for words in commands((competition_folder() / name / "README.md").read_text())]
    assert len(of_season) >= 5
    assert [words for words in of_season if sorted(words) not in told] == []
