"""Figures by name: written whole, readable names in them, and refused with a reason."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from stateshift.errors import StateshiftError
from stateshift.evaluation import write_figure
from stateshift.evaluation.report import FIGURES
from stateshift.evaluation.report.detail import Detail, read_detail
from stateshift.evaluation.report.figures.canvas import kinds
from stateshift.evaluation.report.figures.intervals import LEVELS, coverage_by_level, coverage_by_width


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_written_as_svg_with_its_text(name, world_folder, tmp_path):
    written = write_figure(name, world_folder, tmp_path / "figure.svg").read_text()
    words = {
        "scores": "Pearson delta", "perturbations": "state_tiny", "against-baseline": "mean: Pearson delta",
        "scatter": "predicted change", "volcano": "false discovery rate", "calibration": "share aimed at",
        "learning-curves": "val_loss", "map": "first component",
    }  # fmt: skip
    assert written.lstrip().startswith("<?xml")
    assert words[name] in written
    assert "onerror=window" not in written.replace("&lt;img src=x onerror=window", "")


def test_a_png_has_300_dots_an_inch_and_a_chosen_pair_is_named(world_folder, tmp_path):
    from PIL import Image

    written = write_figure("volcano", world_folder, tmp_path / "v.png", perturbation="G03", context="RPE1")
    assert Image.open(written).size == (1380, 1320)
    written = write_figure("scatter", world_folder, tmp_path / "s.svg", perturbation="G03", context="RPE1")
    assert "G03 in RPE1" in written.read_text()


def test_what_can_not_be_drawn_is_refused_with_the_way_out(world_folder, tmp_path):
    with pytest.raises(StateshiftError, match=r"no figure `vulcano` \(did you mean `volcano`\?\)"):
        write_figure("vulcano", world_folder, tmp_path / "f.svg")
    with pytest.raises(StateshiftError, match=r"written as \.svg, \.png, \.pdf"):
        write_figure("volcano", world_folder, tmp_path / "f.jpg")
    with pytest.raises(StateshiftError, match=r"needs predicted and measured cells.*--truth"):
        write_figure("volcano", world_folder / "predicted.h5ad", tmp_path / "f.svg")
    with pytest.raises(StateshiftError, match="holds no run with learning curves"):
        write_figure("learning-curves", world_folder / "scores", tmp_path / "f.svg")
    (tmp_path / "there.svg").write_text("")
    with pytest.raises(StateshiftError, match="exists already"):
        write_figure("scores", world_folder, tmp_path / "there.svg")
    assert [p.name for p in tmp_path.iterdir()] == ["there.svg"]


def test_calibration_of_normal_errors_lies_on_the_diagonal(world_folder):
    rng = np.random.default_rng(0)
    some = read_detail(world_folder / "predicted.h5ad", world_folder / "truth.h5ad")
    width = rng.uniform(0.2, 2.0, (len(some.rows), 4000))
    errors = rng.normal(0, width / norm.ppf(0.95))
    zero = np.zeros_like(width)
    detail = Detail("m", ["g"] * 4000, some.rows, zero, errors, zero, zero, width, 0.9)
    curves = coverage_by_level(detail)
    assert list(curves) == ["all", "J", "T"]
    np.testing.assert_allclose(curves["all"], LEVELS, atol=0.01)
    shares, widths = coverage_by_width(detail)
    np.testing.assert_allclose(shares, 0.9, atol=0.01)
    np.testing.assert_allclose(widths, np.linspace(0.38, 1.82, 5), atol=0.02)


def test_no_colour_stands_for_two_kinds():
    labels = pd.Series([f"K{i}" for i in range(9) for _ in range(9 - i)])
    found = kinds(labels)
    assert [name for name, *_ in found] == ["K0", "K1", "K2", "K3", "K4", "K5", "3 others"]
    assert len({colour for _, colour, _ in found}) == 7
    assert [int(rows.sum()) for *_, rows in found] == [9, 8, 7, 6, 5, 4, 6]
    assert [name for name, *_ in kinds(labels[labels < "K7"])] == [f"K{i}" for i in range(7)]
