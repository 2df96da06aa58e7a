"""Write docs/licences.md: the licence of every package that stateshift brings along, as the package itself states it.

    python scripts/licences.py         where stateshift[all] is installed; --check only looks whether the core is free

Whatever extra asks for it, a package stands where it is first needed: in the core, or in the first extra.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

REPOSITORY = Path(__file__).resolve().parents[1]
# as whole words of what a package states; LGPL and MPL bind changes to the package alone
BINDING = (
    "GPL",
    "AGPL",
    "GNU General Public",
    "GNU Affero",
    "NonCommercial",
    "Non-Commercial",
    "CC-BY-NC",
    "Proprietary",
)
CUDA = ("nvidia-", "cuda-")
"""What torch's builds for NVIDIA's GPUs bring: NVIDIA's own, under its terms; the builds for CPUs do without."""
TEXT = """# Licences
stateshift itself is under the MIT licence. These are the licences of what it installs, as each package states it; the table is
made by `python scripts/licences.py` from the installed packages, so a package that only another system or Python needs is not
in it. {verdict} On Linux, torch from PyPI is the build for NVIDIA's GPUs and brings NVIDIA's CUDA libraries, which NVIDIA
licenses by terms of its own; torch's build for CPUs (https://download.pytorch.org/whl/cpu) does without them.

The weights of published ESM2 models are under the MIT licence; data of the catalogue (`stateshift data list`) have licences of
their own, which it shows.
"""


def needed_by(requirements: list[str]) -> dict[str, Distribution]:
    """Name → distribution of all that requirements lead to, in this environment; what no marker asks for is left out."""
    found: dict[str, Distribution] = {}
    ahead, seen = [(Requirement(text), "") for text in requirements], set()
    while ahead:
        requirement, extra = ahead.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = requirement.name.lower().replace("_", "-")
        found.setdefault(name, distribution(name))
        for asked in ("", *requirement.extras):
            if (name, asked) not in seen:
                seen.add((name, asked))
                ahead += [(Requirement(text), asked) for text in found[name].requires or []]
    return dict(sorted(found.items()))


def licences_of(requirements: list[str]) -> dict[str, str]:
    """Name → licence of all that requirements lead to, but for `CUDA`."""
    return {name: licence(package) for name, package in needed_by(requirements).items() if not name.startswith(CUDA)}


def licence(package: Distribution) -> str:
    """What a package states: an SPDX expression, else its classifiers, its field, the head of its licence file."""
    told = package.metadata
    if expression := told.get("License-Expression"):
        return expression
    classes = [c.rpartition(" :: ")[2] for c in told.get_all("Classifier") or [] if c.startswith("License ::")]
    if named := [c for c in classes if c != "OSI Approved"]:
        return " or ".join(named)
    field = (told.get("License") or "").strip()
    if field and field != "UNKNOWN" and len(field.splitlines()) == 1:
        return field
    for file in package.files or []:
        if "licen" in file.name.lower() and file.suffix != ".py":
            return file.read_text(encoding="utf-8").strip().splitlines()[0].strip()
    return "none stated"


def binding(stated: str) -> bool:
    """Whether a licence would bind what uses the package, or forbids commerce."""
    words = stated.replace("LGPL", "").replace("Lesser General Public", "")
    return any(word in words for word in BINDING)


def tables() -> dict[str, dict[str, str]]:
    """``core`` and each extra → package → licence, a package where it is first needed."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    asked = {"core": project["dependencies"]}
    asked |= {
        extra: texts for extra, texts in project["optional-dependencies"].items() if extra not in ("all", "dev", "docs")
    }
    made: dict[str, dict[str, str]] = {}
    for part, texts in asked.items():
        before = {name for packages in made.values() for name in packages}
        found = licences_of([text for text in texts if not text.startswith("stateshift")])
        made[part] = {name: stated for name, stated in found.items() if name not in before}
    return made


def page(made: dict[str, dict[str, str]]) -> str:
    """The tables as Markdown."""
    bound = {part: [n for n, stated in packages.items() if binding(stated)] for part, packages in made.items()}
    optional = "; ".join(f"`{part}`: {', '.join(names)}" for part, names in bound.items() if names and part != "core")
    verdict = "Nothing in the core is under a GPL or a licence that excludes commercial use."
    if optional:
        verdict += f" Of the extras, these bring packages under a GPL: {optional}."
    lines = [TEXT.format(verdict=verdict)]
    for part, packages in made.items():
        heading = "The core" if part == "core" else f"Extra `{part}`"
        lines += [f"## {heading}", "| package | licence |", "|---|---|"]
        lines += [f"| {name} | {stated} |" for name, stated in packages.items()]
        lines.append("")
    return "\n".join(lines)


def main(check: bool = False) -> int:
    """Write the page; 1 where the core is bound."""
    try:
        made = tables()
    except PackageNotFoundError as error:
        print(f"{error.name} is not installed: pip install 'stateshift[all]' first.", file=sys.stderr)
        return 2
    bound = [f"{name} ({stated})" for name, stated in made["core"].items() if binding(stated)]
    if bound:
        print(f"The core needs packages whose licence binds what uses them: {', '.join(bound)}.", file=sys.stderr)
        return 1
    if not check:
        (REPOSITORY / "docs" / "licences.md").write_text(page(made), encoding="utf-8")
    return 0


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--check", action="store_true", help="only look whether the core is free, and write nothing")
    sys.exit(main(words.parse_args().check))
