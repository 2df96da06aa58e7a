"""A prediction or an export that is killed leaves nothing under its name, and begun again it ends the same."""

import logging
import os
import signal

import pytest


@pytest.fixture(scope="module")
def stages(faults, kills, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stages")
    logging.disable(logging.CRITICAL)
    yield kills.stages(faults.make_screen(folder), folder)
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(("stage", "output"), [("prediction", "p.h5ad"), ("export", "s.vcc")])
def test_what_is_killed_as_it_takes_its_name_is_made_again_the_same(stages, stage, output, tmp_path):
    run, result = stages[stage]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    child = os.fork()
    if child == 0:
        replace = os.replace

        def dying(source, target):
            if os.path.basename(target) == output:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(source, target)

        os.replace = dying
        try:
            run(killed)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert not (killed / output).exists()
    run(killed)
    run(whole)
    assert result(killed) == result(whole)
