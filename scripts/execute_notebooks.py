"""Execute the notebooks of docs/ and keep their outputs: python scripts/execute_notebooks.py [NAME …]"""

from __future__ import annotations

import argparse
import re
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).resolve().parents[1] / "docs" / "notebooks"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def execute(path: Path) -> None:
    """Run a notebook in a folder of its own; logs and the names of temporary folders are left out."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": folder}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                if "text" in output:
                    output["text"] = re.sub(rf"{tempfile.gettempdir()}/\w+/", "", output["text"])
    notebook.metadata = METADATA
    nbformat.write(notebook, path)


if __name__ == "__main__":
    there = sorted(NOTEBOOKS.glob("*.ipynb"))
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument(
        "names", nargs="*", metavar="NAME", help=f"{', '.join(path.stem for path in there)}; default all"
    )
    names = words.parse_args().names
    if unknown := sorted(set(names) - {path.stem for path in there}):
        words.error(f"there is no notebook {', '.join(unknown)} in {NOTEBOOKS}")
    for one in [path for path in there if not names or path.stem in names]:
        execute(one)
        print(f"{one.name} is executed.")
