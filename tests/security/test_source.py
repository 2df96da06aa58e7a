"""No line of the package unpickles, evaluates text or opens a shell; what does so with care is named here."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "stateshift"
FORBIDDEN = {
    "eval", "exec", "compile", "__import__", "pickle.load", "pickle.loads", "pickle.Unpickler", "pd.read_pickle",
    "pandas.read_pickle", "joblib.load", "dill.load", "cloudpickle.load", "yaml.load", "yaml.load_all", "yaml.unsafe_load",
    "yaml.full_load", "os.system", "os.popen", "subprocess.getoutput", "shutil.unpack_archive", "hydra.utils.instantiate",
    "instantiate", "tempfile.mktemp", "torch.hub.load", "marshal.loads", "shelve.open",
    "urlopen", "urllib.request.urlopen", "web.urlopen", "urllib.request.urlretrieve", "web.urlretrieve",
}  # fmt: skip
"""Calls that run what a file or a text says."""
CAREFUL = {
    "pickle._Unpickler": {"proteins/explore/stored/pickles.py", "transition/arc/files.py"},
    "subprocess.run": {"rag_esm/homologs/retrieval.py"},
    "subprocess.Popen": {"structure/residues/esm3.py"},
    "web.OpenerDirector": {"structure/parsing/files.py"},
    "requests.get": {"catalogue/downloader.py"},
    "zipfile.ZipFile": {"catalogue/fetching.py", "files.py", "proteins/explore/stored/files.py"},
    "import_module": {"features/registry.py"},
    "h5py.File": {
        "hdf5.py",
        "prediction/joined.py",
        "cells/matrix/stream.py",
        "cells/prepare/prepared_file.py",
        "proteins/store/writer.py",
    },
}
"""What is used in these files alone, each held to what it may do by a test of its own room."""
KEYWORDS = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
}
"""Keywords that a call has to have."""


def calls():
    """Name, keywords, file and line of every call of the package, and of what its classes are made from."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                keywords = {k.arg: k.value.value if isinstance(k.value, ast.Constant) else None for k in node.keywords}
                yield ast.unparse(node.func), keywords, path.relative_to(SOURCE).as_posix(), node.lineno
            if isinstance(node, ast.ClassDef):
                for base in node.bases:
                    yield ast.unparse(base), {}, path.relative_to(SOURCE).as_posix(), node.lineno


@pytest.fixture(scope="module")
def found():
    return list(calls())


def test_nothing_runs_what_a_file_says(found):
    assert [call for call in found if call[0] in FORBIDDEN] == []


def test_what_needs_care_is_used_where_it_is_taken(found):
    strange = [call for call in found if call[0] in CAREFUL and call[2] not in CAREFUL[call[0]]]
    assert strange == []


@pytest.mark.parametrize("name", KEYWORDS)
def test_loaders_are_told_to_unpickle_nothing(found, name):
    key, value = KEYWORDS[name]
    wrong = [call for call in found if call[0] == name and call[1].get(key) is not value]
    assert wrong == []


def test_no_program_is_started_through_a_shell_and_no_foreign_code_is_trusted_unasked(found):
    assert [call for call in found if call[1].get("shell") or call[1].get("trust_remote_code")] == []
    fits = [call for call in found if call[0].endswith("trainer.fit")]
    # Lightning is given a checkpoint in these three calls, and nowhere else
    resuming = {"training/loop/fit.py", "bioemb/training/trainer.py", "structure/training/train.py"}
    assert {call[2] for call in fits if "ckpt_path" in call[1]} == resuming
    assert all(call[1].get("weights_only") is True for call in fits if "ckpt_path" in call[1])


def test_the_names_that_are_looked_for_are_spelt_as_the_source_spells_them(found):
    names = {call[0] for call in found}
    assert {"torch.load", "np.load", "yaml.safe_load"} <= names
    assert set(CAREFUL) <= names
