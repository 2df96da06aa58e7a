"""Tables of proteins and the class of each, as SCOP's families or CATH's codes."""

from __future__ import annotations

from pathlib import Path

from stateshift.errors import InputProblems, StateshiftError


def read_classes(path: str | Path) -> dict[str, str]:
    """Name → class of a two-column table without a header, separated by a tab or a comma.

    Raises
    ------
    StateshiftError
        There is no such file.
    InputProblems
        Lines that are no name and class, names of two classes, or none at all.
    """
    path = Path(path)
    if not path.is_file():
        raise StateshiftError(f"{path}: there is no such table of classes.")
    classes, problems = {}, []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), start=1):
        fields = [field.strip() for field in line.replace(",", "\t").split("\t")]
        if len(fields) >= 2 and all(fields[:2]):
            if classes.setdefault(fields[0], fields[1]) != fields[1]:
                problems.append(
                    f"line {number}: `{fields[0]}` is of {classes[fields[0]]} further up, here of {fields[1]}."
                )
        elif line.strip():
            problems.append(f"line {number} reads `{line[:40]}`, not a name and a class.")
    if problems or not classes:
        raise InputProblems(str(path), problems[:20] or ["it is empty."])
    return classes
