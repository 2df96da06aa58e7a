"""Where nothing can be written, or another process writes, a sentence says so and nothing is lost."""

import ctypes
import os
import struct

import pytest

from stateshift.errors import StateshiftError
from stateshift.files import written_beside
from stateshift.run import open_run
from stateshift.training import resume, train

SMALL = [
    "model.hidden=16", "model.ffn=16", "model.heads=2", "model.layers=1", "model.set_size=8", "training.max_steps=4",
    "training.val_every=2",
]  # fmt: skip


def give_up_powers() -> None:
    """Lose the capabilities by which nothing is read-only to root."""
    head, none = struct.pack("Ii", 0x20080522, 0), bytes(24)
    if ctypes.CDLL(None).capset(head, none) != 0:
        raise OSError("capset failed")


def said_without_powers(work) -> str:
    """The sentence that `work` ends in, in a process that is no more than any user's."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            give_up_powers()
            work()
        except StateshiftError as error:
            os.write(writing, str(error).encode())
        except BaseException as error:
            os.write(writing, f"no sentence: {error!r}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        said = answer.read()
    os.waitpid(child, 0)
    return said


@pytest.fixture
def read_only(screen):
    """A folder that takes no files, beside the files of a screen."""
    closed = screen.folder / "closed"
    closed.mkdir(mode=0o555)
    yield closed
    closed.chmod(0o755)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "capset"), reason="capabilities are Linux's")
def test_a_read_only_output_is_a_sentence_before_anything_is_computed(screen, read_only):
    from stateshift.features import create_features
    from stateshift.prediction import predict

    closed, genes = read_only, screen.folder / "genes.txt"
    genes.write_text("G1\nG2\n")
    works = {
        "run": lambda: train(screen.toml, SMALL, pert_features=screen.table, output_dir=closed, name="run"),
        "f.pt": lambda: create_features(gene_list=genes, source="onehot", output=closed / "f.pt"),
        "p.h5ad": lambda: predict("a run", cells=screen.cells, perturb="G1", output=closed / "p.h5ad"),
    }  # fmt: skip
    for name, work in works.items():
        assert (
            said_without_powers(work)
            == f"{closed / name} can't be written: {closed} is read-only to you. Choose another place."
        )
    assert list(closed.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cells.h5ad/p.h5ad", r"can't be written: .*cells\.h5ad is no folder"),
        ("x" * 245 + ".h5ad", r"can't be written: shorten its name by \d+ letters"),
        ("pipe.h5ad", r"pipe\.h5ad is a device or a pipe"),
    ],
)
def test_a_name_that_no_output_can_have_is_told_before_anything_is_computed(name, said, screen):
    from stateshift.prediction import predict

    os.mkfifo(screen.folder / "pipe.h5ad")
    with pytest.raises(StateshiftError, match=said):
        predict("a run", cells=screen.cells, perturb="G1", output=screen.folder / name, overwrite=True)


def test_what_another_process_made_meanwhile_is_kept(tmp_path):
    path = tmp_path / "p.txt"

    def write():
        with written_beside(path) as part:
            part.write_text("ours")
            path.write_text("theirs")

    with pytest.raises(StateshiftError, match="made by another process meanwhile"):
        write()
    assert path.read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_is_trained_by_one_process_at_a_time(screen):
    run = train(screen.toml, SMALL, pert_features=screen.table, output_dir=screen.folder, name="run")
    words = ["training.max_steps=6"]
    with open_run(run).alone():
        refused = "run is being trained by another process: wait until that one has ended"
        with pytest.raises(StateshiftError, match=refused):
            resume(run, words)
    assert resume(run, words) == run
    assert not (run / "lock").exists()
