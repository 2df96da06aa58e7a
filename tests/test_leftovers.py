"""What killed processes left half written is named where something is written beside it, and stays."""

import os
import subprocess
import sys

from stateshift.files import written_beside
from stateshift.leftovers import TOKEN

KILLED = """
import os, signal, sys
from pathlib import Path
from stateshift.files import written_beside
with written_beside(Path(sys.argv[1], "p.h5ad")) as part:
    part.write_text("half")
    part.with_name(f"{part.name}.h5ad").mkdir()
    print(part.name)
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_named_once_and_kept_and_what_others_are_writing_is_not(tmp_path, caplog):
    killed = subprocess.run([sys.executable, "-c", KILLED, tmp_path], capture_output=True, text=True, check=False)
    left = killed.stdout.strip()
    reused = f".q.{os.getpid()}-{'0000' if TOKEN != '0000' else '1111'}.part"
    kept = [
        left,
        f"{left}.h5ad",
        reused,
        f".r.{os.getppid()}-ab12.part.csv",
        f".s.{os.getpid()}-{TOKEN}.part",
        ".t.part",
    ]
    for name in kept[2:]:
        (tmp_path / name).write_text("")
    for name in ("a.csv", "b.csv"):
        with written_beside(tmp_path / name) as part:
            part.write_text("")
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}: left half written by a process that was killed: {', '.join(sorted(kept[:3]))}. "
        "Delete it, unless another machine is at it."
    ]
    assert {path.name for path in tmp_path.iterdir()} == {*kept, "a.csv", "b.csv"}
