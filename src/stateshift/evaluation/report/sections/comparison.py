"""The report's part on a comparison of models (stateshift compare): its table."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from stateshift.evaluation.ceilings import percent
from stateshift.evaluation.report import page
from stateshift.evaluation.tables import number, with_interval

HEADER = ("regime", "model", "features", "pairs", "Pearson delta ↑", "minus the best baseline", "harm ↓", "gap closed ↑", "MAE ↓", "PDS (L1) ↑")  # fmt: skip


def comparison_section(folder: Path, name: str, anchor: str) -> list[str]:
    """HTML of one comparison: a row a regime, model and table of features, as ``table.csv`` has them."""
    lines = [page.heading(f"Comparison {name}", anchor=anchor)]
    texts = dict.fromkeys(("regime", "model", "features", "baseline"), str)
    try:
        table = pd.read_csv(folder / "table.csv", dtype=texts, keep_default_na=False, na_values=[""])
        rows = [_cells(row) for row in table.to_dict("records")]
    except (ValueError, KeyError) as error:
        return [*lines, page.paragraph(f"table.csv can't be read ({error}): compare again.", "note")]
    said = (
        "In bold the best baseline of its regime, chosen with the answers known. Harm: pairs on which it was the better choice; "
        "gap: the way from the context mean to a second experiment of the same size."
    )
    return [*lines, page.raw_table(HEADER, rows, left=3), page.paragraph(said, "soft")]


def _cells(row: dict) -> str:
    best = pd.isna(row["difference"])
    pearson = number(row["pearson_delta"]) + (f" ± {number(row['sd'])}" if pd.notna(row["sd"]) else "")
    against = "–" if pd.isna(row["difference"]) else with_interval(row)
    values = (
        row["regime"], row["model"], row["features"], f"{row['pairs']:,}", pearson, against, percent(row["harm"]),
        percent(row["gap_closed"]), number(row["mae"]), number(row["pds_l1"]),
    )  # fmt: skip
    cells = "".join(f"<td>{page.text(value)}</td>" for value in values)
    return f'<tr class="ours">{cells}</tr>' if best else f"<tr>{cells}</tr>"
