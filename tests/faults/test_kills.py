"""A prediction or an export that is killed leaves nothing under its name, and begun again it ends the same."""

import json
import logging
import signal
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "scripts" / "bench"
OUTPUTS = {"prediction": "p.h5ad", "export": "s.vcc"}
# a process of its own, which has started no threads, forks one for each stage that dies as its output takes its name
DYING = """
import json, os, signal, sys
from pathlib import Path
bench, folder, killed, files, outputs = sys.argv[1:]
sys.path.insert(0, bench)
import kills
files = {name: Path(path) for name, path in json.loads(files).items()}
replace = os.replace
stages = kills.stages(files, Path(folder))  # nothing to do but to import
for stage, output in json.loads(outputs).items():
    child = os.fork()
    if child == 0:
        def dying(source, target):
            if os.path.basename(target) == output:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(source, target)
        os.replace = dying
        try:
            stages[stage][0](Path(killed) / stage)
        finally:
            os._exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_what_is_killed_as_it_takes_its_name_is_made_again_the_same(faults, kills, quiet, tmp_path):
    files, killed, whole = faults.make_screen(tmp_path), tmp_path / "killed", tmp_path / "whole"
    stages = kills.stages(files, tmp_path)
    for stage in OUTPUTS:
        (killed / stage).mkdir(parents=True)
        (whole / stage).mkdir(parents=True)
    words = [BENCH, tmp_path, killed, json.dumps({k: str(v) for k, v in files.items()}), json.dumps(OUTPUTS)]
    done = subprocess.run([sys.executable, "-c", DYING, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.stdout.split() == [str(-signal.SIGKILL)] * 2, done.stderr
    for stage, output in OUTPUTS.items():
        run, result = stages[stage]
        assert not (killed / stage / output).exists()
        run(killed / stage)
        run(whole / stage)
        assert result(killed / stage) == result(whole / stage)
