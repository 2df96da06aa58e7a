import signal
import subprocess
import sys
import time


def test_a_command_that_a_scheduler_ends_clears_away_what_it_has_half_written(tmp_path):
    code = "from stateshift.cli.main import run; run()"
    command = [
        sys.executable,
        "-c",
        code,
        "data",
        "simulate",
        "-o",
        "sim.h5ad",
        "--cells",
        "20000",
        "--genes",
        "18080",
    ]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob(".*part*")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert list(tmp_path.glob(".*part*")), process.stderr.read()
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    assert process.returncode == 143
    assert list(tmp_path.iterdir()) == []
