"""Options of `stateshift challenge` that its source can't use."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from stateshift.cli.main import app


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("export p.h5ad --genes g --output o --cells c --seed 0", "--cells, --seed: only of a run, and p.h5ad is no folder"),
        ("export . --genes g --output o --cells c --pert-counts t --controls c", "--controls: only of a predicted file"),
        ("export p.h5ad q.h5ad --genes g --output o", "q.h5ad is one too many: one prediction or run at a time"),
        ("validate p.h5ad q.h5ad --genes g", "q.h5ad is one too many: one prediction or run at a time"),
        ("score p.h5ad --truth t --split val", "--split: only of a run, and p.h5ad is no folder"),
        ("score . --energy --truth t", "--truth, --energy: only of files"),
    ],
)  # fmt: skip
def test_an_option_that_would_do_nothing_is_refused(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["challenge", *words.split(), "--season", "2025"])
    assert str(done.exception).startswith(said)
    assert list(tmp_path.iterdir()) == []
