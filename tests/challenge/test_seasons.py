"""Seasons are files: 2025's is shipped, an invented one is read by its path."""

from __future__ import annotations

import pytest

from stateshift.challenge import known_seasons, read_season
from stateshift.challenge.seasons import competition_folder
from stateshift.errors import InputProblems, StateshiftError


def test_the_rules_of_2025_are_the_published_ones():
    season = read_season("2025")
    assert (season.cells.genes, season.cells.most, season.cells.advised) == (18_080, 200_000, 100_000)
    assert (season.values.below, season.values.whole) == (15.0, 1e-3)
    assert (season.cells.perturbation, season.cells.control) == ("target_gene", "non-targeting")
    assert (season.cells.controls, season.cells.gene_header, season.score.like) == (True, False, "2025")
    assert known_seasons() == ["2025", "2026"]


def test_a_season_without_rules_is_refused_with_those_there_are():
    with pytest.raises(StateshiftError, match=r"no rules for the season `2031` \(there are: 2025, 2026\)"):
        read_season("2031")


def test_an_invented_season_is_one_more_file(tmp_path):
    text = (competition_folder() / "2025" / "rules.toml").read_text()
    path = tmp_path / "rules.toml"
    path.write_text(text.replace('season = "2025"', 'season = "2099"').replace("18_080", "12"))
    assert (read_season(path).season, read_season(path).cells.genes) == ("2099", 12)


def test_all_faults_of_a_rules_file_are_named_at_once(tmp_path):
    text = (competition_folder() / "2025" / "rules.toml").read_text()
    path = tmp_path / "rules.toml"
    path.write_text(text.replace("18_080", '"many"').replace("most =", "mots ="))
    with pytest.raises(InputProblems) as error:
        read_season(path)
    assert error.value.problems == [
        "[cells] genes = 'many' is no whole number.",
        "[cells] most is missing.",
        "[cells] mots is no key of the rules (did you mean `most`?).",
    ]
    path.write_text("season = ")
    with pytest.raises(StateshiftError, match="can't be read as a season's rules"):
        read_season(path)


def test_the_starter_experiment_is_what_cell_load_reads():
    from cell_load.config import ExperimentConfig

    config = ExperimentConfig.from_toml(str(competition_folder() / "2025" / "starter.toml"))
    assert list(config.datasets) == ["replogle_h1"]
    assert config.training == {"replogle_h1": "train"}
