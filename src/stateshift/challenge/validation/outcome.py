"""What the checks found, and its table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stateshift.challenge.seasons import Season

if TYPE_CHECKING:
    from rich.table import Table

MARKS = {"pass": ("PASS", "green"), "warn": ("WARN", "bold yellow"), "fail": ("FAIL", "bold red"), "open": ("—", "dim")}


@dataclass(frozen=True)
class Check:
    """One check: its name, ``pass``, ``warn``, ``fail`` or ``open`` (it could not be made), and what was found."""

    name: str
    status: str
    detail: str


@dataclass
class Validation:
    """The outcome of all checks.

    Parameters
    ----------
    where
        The prediction's name.
    season
        The rules it was held to.
    checks
        In the order of the table.
    """

    where: str
    season: Season
    checks: list[Check] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return not self.problems

    @property
    def problems(self) -> list[str]:
        """A sentence for each check that failed."""
        return self._of("fail")

    @property
    def warnings(self) -> list[str]:
        """A sentence for each thing that the season allows and that a prediction should not have."""
        return self._of("warn")

    def _of(self, status: str) -> list[str]:
        return [f"{check.name}: {check.detail}." for check in self.checks if check.status == status]

    def add(self, name: str, problem: str | None, detail: str, status: str = "fail") -> None:
        """Note a check: it failed (or warns) if there is a problem, which is then its detail."""
        self.checks.append(Check(name, "pass", detail) if problem is None else Check(name, status, problem))

    def leave_open(self, name: str, why: str) -> None:
        """Note a check that could not be made."""
        self.checks.append(Check(name, "open", why))


def validation_table(validation: Validation) -> Table:
    """The checks as a rich table."""
    from rich.table import Table
    from rich.text import Text

    table = Table("check", "", "found", title=f"{validation.where}: {validation.season.title}")
    for check in validation.checks:
        text, style = MARKS[check.status]
        table.add_row(check.name, Text(text, style=style), Text(check.detail))
    return table
