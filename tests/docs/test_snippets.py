"""Every command of README and docs is read by the real command line, and runs on tiny data or says why it can't."""

from __future__ import annotations

import ast
import functools
import importlib.util
import itertools
import re
import shlex
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

from stateshift.cli.main import app

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
SEASONS = sorted((REPOSITORY / "competition").glob("*/README.md"))
PUBLISHED, DEMO = "esm2_t33_650M_UR50D", "stateshift-demo-esm2"

NOT_RUN = {
    "accuracy.md": "the scripts behind the figures take hours",
    "benchmarks.md": "the scripts behind the figures take hours, or another package",
    "bioemb.md": "tests/bioemb trains each of them",
    "challenge.md": "on a season's data; tests/challenge goes the same way on small cells",
    "competition/2025/README.md": "on the season's data; tests/challenge goes the same way on small cells",
    "competition/2026/README.md": "on the season's data; tests/challenge goes the same way on small cells",
    "rag_esm.md": "tests/cli/test_rag_esm.py goes the same way",
    "scale.md": "tests/prediction/test_joined.py joins; the script behind the figures takes hours",
    "structure.md": "tests/cli/test_structure.py and tests/structure go the same way",
    "scripts/quickstart": "installs",
    "scripts/test": "runs all tests",
    "scripts/bench/": "hours",
    "pip install": "installs",
    "source ": "opens an environment",
    "stateshift data get": "downloads",
    "hydra/launcher=": "joblib's processes are tested in tests/training/sweep; Slurm is not to be had",
    "--multirun": "eight trainings; tests/training/sweep has them",
    "starter_sweep": "the results of that sweep",
    "score_season(": "on whole seasons' files; tests/evaluation/seasons",
    "score_run(": "on a season's data; tests/challenge",
    "$run": "the results of that sweep",
    "--scan": "684 mutants; tests/proteins/explore scans a short protein",
    "--seeds": "a training for each; tests/evaluation/comparison has them",
    "--folds": "a minute; tests/evaluation/comparison has them",
    "--model mine": "by a package that isn't there; tests/effects/test_other_packages.py invents one",
    "--season": "on whole seasons' files; tests/evaluation/seasons and tests/challenge",
    "model=anchored": "a stack of effect models is fitted; tests/training/anchored trains with one",
    "stack.h5ad": "the same stack once more",
    "stateshift-demo/": "on what the demo leaves; tests/test_demo.py runs it",
    " example.toml": "on what the demo leaves; the README's and the other pages' commands are the same",
}
"""A page, or what a command holds, and why such commands are only read."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    name = page.name if page.parent.name == "docs" else page.relative_to(REPOSITORY).as_posix()
    found = re.finditer(r"^( *)```(\w*)\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    return [Block(name, text[: m.start()].count("\n") + 2, m[2], m[3]) for m in found]


def commands_of(block: Block) -> list[list[str]]:
    """Its commands as words: lines joined, comments and a loop's own words left out, `&&` taken apart."""
    lines = re.sub(r"\\\n\s*", " ", block.text).splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    words = [w for w in words if w and w[0] not in ("for", "done", "[")]
    split = []
    for line in words:
        while "&&" in line:
            split.append(line[: line.index("&&")])
            line = line[line.index("&&") + 1 :]
        split.append(line)
    return [[word for i, word in enumerate(w) if i or "=" not in word] for w in split]


BLOCKS = [block for page in (*PAGES, *SEASONS) for block in blocks_of(page)]
COMMANDS = [(block, words) for block in BLOCKS if block.language == "bash" for words in commands_of(block)]
LAUNCHERS = ("joblib", "submitit_slurm", "submitit_local")
RUNS = {
    "anchored.md": ["starter_anchored"],
    "compare.md": ["starter_state_tiny"],
    "doubles.md": ["starter_anchored"],
    "faq.md": ["starter_state_tiny"],
    "fine-tuning.md": ["first_state_sm"],
    "intervals.md": ["first", "second", "third"],
    "new_cell_type.md": ["starter_anchored"],
    "report.md": ["starter_state_tiny"],
    "unseen_gene.md": ["starter_anchored"],
}
"""Runs that a page supposes: copies of one trained run, under the names of the page."""
PRELUDES = {
    "emission.md": """
import numpy as np
random = np.random.default_rng(0)
control_counts = random.poisson(random.gamma(2, 3, 40), (60, 40)).astype(np.float32)
batches, effects, n_cells = ["b1"] * 60, random.normal(0, 0.3, (12, 40)), np.full(12, 50)
effect = effects[0]
""",
}
OURS = {"stateshift": (), "create_esm_pert_features": ("features", "create")}


def reason(block: Block, said: str) -> str | None:
    """Why a command, or a block of Python, is only read; None where it runs."""
    if block.page == "README.md":
        return next((why for part, why in NOT_RUN.items() if part in said and part != "model=anchored"), None)
    return next((why for part, why in NOT_RUN.items() if part == block.page or part in said), None)


def named(block: Block, words: list[str]) -> str:
    return f"{block.page}:{block.line} {' '.join(words)}"


def parsed(command, words: list[str]) -> tuple[str, dict]:
    """The command's own name and parameters, as the command line reads them."""
    name = ""
    while hasattr(command, "commands"):
        assert words[0] in command.commands, f"there is no command {words[0]}"
        name, command, words = f"{name} {words[0]}".strip(), command.commands[words[0]], words[1:]
    return name, command.make_context(name, list(words)).params


@functools.cache
def our_command():
    """The command line of the package: built once, for that takes a third of a second."""
    return typer.main.get_command(app)


@functools.cache
def script_command(path: Path):
    """The command line of a script in scripts/."""
    spec = importlib.util.spec_from_file_location(f"script_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "main"):
        return our_command().commands["features"].commands["create"]
    made = typer.Typer(add_completion=False)
    made.command()(module.main)
    return typer.main.get_command(made)


def check_overrides(name: str, read: dict) -> None:
    """Compose what a command's `key=value` words ask for; of a sweep, its first runs."""
    from stateshift.bioemb.settings import read_settings as bioemb_settings
    from stateshift.rag_esm.training.settings import read_settings as rag_esm_settings
    from stateshift.training import compose_config
    from stateshift.training.sweep.words import SweepWords

    words = [w for w in read.get("overrides") or [] if not w.startswith("hydra.")]
    if name.startswith("bioemb") and read.get("config"):
        assert bioemb_settings(read["config"], words)
    elif name.startswith("rag-esm"):
        assert rag_esm_settings(read["preset"], words)
    elif read.get("multirun"):
        sweep = SweepWords.parse(words)
        assert all(word.split("=")[1] in LAUNCHERS for word in sweep.hydra)
        for combination in sweep.combinations()[:3]:
            assert compose_config([*sweep.fixed, *combination])
    else:
        assert all(word.split("=")[1] in LAUNCHERS for word in words if word.startswith("hydra/"))
        assert compose_config([word for word in words if not word.startswith("hydra/")])


def check_read(words: list[str]) -> None:
    """Fail where the real command line wouldn't take a command."""
    if words[0] in OURS:
        name, read = parsed(our_command(), [*OURS[words[0]], *words[1:]])
        if read.get("overrides"):
            check_overrides(name, read)
    elif words[0] == "python":
        path = REPOSITORY / words[1]
        assert path.is_file()
        if path.parent.name == "bench":
            options = {word.strip("[]").split("=")[0] for word in words[2:] if word.strip("[").startswith("--")}
            source = path.read_text()
            assert [o for o in options if f'"{o}"' not in source and f"{o[2:].replace('-', '_')}:" not in source] == []
        else:
            assert script_command(path).make_context(path.stem, words[2:]).params
    elif words[:2] == ["pip", "install"]:
        extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert re.fullmatch(r"stateshift\[(\w+)\]", words[2])[1] in extras
    else:
        assert words[0] in ("source", "mkdocs", "vcc", "unzip") or (REPOSITORY / words[0]).is_file()


def test_every_block_says_its_language_and_commands_are_found():
    assert {block.language for block in BLOCKS} <= {"bash", "python", "toml", "text", ""}
    assert [b for b in BLOCKS if not b.language and re.search(r"^ *(stateshift|python) ", b.text, re.MULTILINE)] == []
    assert len(COMMANDS) > 150


@pytest.mark.parametrize("page", sorted({block.page for block, _ in COMMANDS}))
def test_the_command_line_reads_every_command_of_a_page(page):
    refused = {}
    for block, words in COMMANDS:
        if block.page == page:
            try:
                check_read(words)
            except Exception as error:
                refused[named(block, words)] = repr(error)
    assert refused == {}


def test_what_is_only_read_is_on_the_list_for_a_command_that_is_there():
    said = [(block, " ".join(words)) for block, words in COMMANDS]
    said += [(block, block.text) for block in BLOCKS if block.language == "python"]
    used = {part for block, text in said for part in NOT_RUN if part == block.page or part in text}
    assert used == set(NOT_RUN)
    assert sum(reason(block, " ".join(words)) is None for block, words in COMMANDS) > 60


def small(words: list[str]) -> list[str]:
    """The words of a command, with a training of two steps and the ESM2 model that the package ships."""
    most = 4 if "--resume" in words else 2
    steps = [re.sub(r"^training\.(max_steps|val_every)=\d+$", rf"training.\1={most}", word) for word in words]
    steps = [word.replace(PUBLISHED, DEMO) for word in steps]
    return ["2" if before == "--max-steps" else word for before, word in zip([None, *steps], steps)]


def run(words: list[str]) -> None:
    """Run a command in the current folder; what it would find in its way is a leftover of the page's world."""
    # a table of features without a way to make one is there already, and stays
    kept = "--from-toml" in words and "--fasta" not in words
    for flag, value in itertools.pairwise(words):
        if flag in ("-o", "--output") and not kept:
            for there in Path().glob(f"{value}*"):
                shutil.rmtree(there) if there.is_dir() else there.unlink()
    if words[0] == "python":
        path = REPOSITORY / words[1]
        command, words = script_command(path), words[2:]
    else:
        command, words = our_command(), [*OURS[words[0]], *words[1:]]
    command.main(words, prog_name="stateshift", standalone_mode=False)


@pytest.fixture
def page_world(world, tmp_path, monkeypatch) -> Path:
    """A copy of the world to run a page in."""
    folder = tmp_path / "page"
    shutil.copytree(world, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("STATESHIFT_CACHE", str(tmp_path / "cache"))
    return folder


def prepare_page(page: str, folder: Path) -> None:
    """What a page supposes to be there and doesn't make: trained runs, and the experiment that it shows."""
    trained = folder / "runs" / "starter_state_tiny"
    kept = trained.rename(folder / "trained")
    for name in RUNS.get(page, ()):
        shutil.copytree(kept, folder / "runs" / name)
    if page == "README.md":
        shown = next(b.text for b in BLOCKS if b.page == page and b.language == "toml")
        small_run = (folder / "starter.toml").read_text().split("[run]")[1].partition("overrides")[2]
        # a stack of effect models takes twenty seconds to fit three times; tests/training/anchored trains with one
        shown = shown.replace(PUBLISHED, DEMO).replace('model = "anchored"', 'name = "screen_anchored"')
        (folder / "screen.toml").write_text(f'{shown}model = "state_tiny"\noverrides{small_run}')


def run_python(text: str, page: str) -> None:
    """Run a block, with what its page speaks of and doesn't make."""
    names: dict = {}
    exec(PRELUDES.get(page, ""), names)
    exec(compile(text.replace(PUBLISHED, DEMO).replace("[0, 20, -1]", "[0, 2, -1]"), page, "exec"), names)


RUN_PAGES = sorted(
    {b.page for b, words in COMMANDS if reason(b, " ".join(words)) is None}
    | {b.page for b in BLOCKS if b.language == "python" and reason(b, b.text) is None}
)


@pytest.mark.parametrize("page", RUN_PAGES)
def test_a_page_runs_from_its_first_command_to_its_last(page, page_world, monkeypatch, capsys):
    prepare_page(page, page_world)
    for block in BLOCKS:
        if block.page != page or block.language not in ("bash", "python"):
            continue
        if block.language == "python":
            if reason(block, block.text) is None:
                run_python(block.text, page)
            continue
        for words in commands_of(block):
            if reason(block, " ".join(words)) is None:
                try:
                    run(small(words))
                except (Exception, SystemExit) as error:
                    raise AssertionError(f"{named(block, words)}: {type(error).__name__}: {error}") from error


def test_python_that_does_not_run_imports_what_is_there():
    for block in BLOCKS:
        if block.language == "python" and reason(block, block.text) is not None:
            tree = compile(block.text, block.page, "exec", ast.PyCF_ONLY_AST)
            imports = [node for node in tree.body if isinstance(node, ast.ImportFrom | ast.Import)]
            assert imports, block
            exec(compile(ast.Module(imports, []), block.page, "exec"), {})


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "toml"], ids=lambda b: f"{b.page}:{b.line}")
def test_a_block_of_toml_is_an_experiment_that_can_be_read(block, page_world):
    from stateshift.cells import read_experiment

    text = block.text
    if "[datasets]" not in text:
        training = "" if "[training]" in text else '[training]\nscreen = "train"\n'
        text = f'[datasets]\nscreen = "screen.h5ad"\n{training}{text}'
    for file in ("stateshift-demo/proteins.fasta",):
        (page_world / file).parent.mkdir(exist_ok=True)
        shutil.copy(page_world / "human.fasta", page_world / file)
    (page_world / "shown.toml").write_text(text)
    experiment = read_experiment(page_world / "shown.toml")
    shown = tomllib.loads(block.text)
    assert {**experiment.features, **shown.get("features", {})} == dict(experiment.features)
    assert list(experiment.datasets) == ["screen"]
