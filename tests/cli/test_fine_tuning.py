"""Fine-tuning as a user types it: the table of what was kept, and what does not go together."""

from typer.testing import CliRunner

from stateshift.cli.main import app
from stateshift.errors import StateshiftError

SHAPE = ["model.hidden=16", "model.ffn=16", "model.heads=2", "model.layers=1", "model.set_size=8"]


def train(screen, *words):
    words = [*words, "training.max_steps=2", "training.val_every=2", "--pert-features", screen.table]
    words += ["--output-dir", screen.folder]
    done = CliRunner(env={"COLUMNS": "160"}).invoke(app, ["train", str(screen.toml), *map(str, words)])
    assert done.exception is None, done.exception
    return done.output


def test_the_table_tells_what_was_kept(screen):
    train(screen, *SHAPE, "--name", "old")
    output = train(screen, "--init-from", screen.folder / "old", "--name", "new", "model.confidence_token=true")
    table = [[cell.strip() for cell in line.split("│")] for line in output.splitlines() if "│" in line]
    rows = {cells[1]: cells[2:4] for cells in table}
    assert rows["basal_encoder"] == ["kept", "20 of 20 genes"]
    assert rows["transformer_backbone"] == ["kept", ""]
    assert rows["confidence_token"] == ["re-made", "the source has none"]
    assert "× the source's, and what that misses of the training effects." in output


def test_a_resume_keeps_to_its_source(screen):
    done = CliRunner().invoke(app, ["train", "--resume", str(screen.folder / "r"), "--init-from", "old"])
    assert isinstance(done.exception, StateshiftError)
    assert "--resume goes on with what the run was trained on: leave out --init-from" in str(done.exception)
