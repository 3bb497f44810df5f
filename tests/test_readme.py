"""The README says what is: its tables equal the registries, its programs and commands run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reinmax_core.estimators.base import Estimator
from reinmax_core.tasks.base import Task
from reinmax_core.value import Value, discover

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [content for found, content in fenced if found == language]


def settings(value_class: type[Value]) -> str:
    """The fields and their defaults, as in a request."""
    fields = {name: field.default for name, field in value_class.model_fields.items() if name != "name"}
    return ", ".join(f"`{name}` {json.dumps(default)}" for name, default in fields.items()) or "none"


def source(value_class: type[Value]) -> str:
    """First author, year and link of each source that the docstring names."""
    text = " ".join((value_class.__doc__ or "").partition("Source")[2].split())
    found = re.findall(r"(?:by |: |; |and of )?([A-Z][\w]+)[^\"]*\"[^\"]+\", (\d{4}), (https?://\S+|arXiv \S+)", text)
    links = [(f"{author} {year}", link.rstrip(".;,")) for author, year, link in found]
    assert links, f"{value_class.__name__} names no source"
    return ", ".join(f"[{name}]({link.replace('arXiv ', 'https://arxiv.org/abs/')})" for name, link in links)


def table(base: type[Value]) -> str:
    """The table as it should stand in the README."""
    rows = ["| name | what it is | settings and defaults | source |", "|---|---|---|---|"]
    for name, value_class in discover(base).items():
        sentence = " ".join((value_class.__doc__ or "").strip().split("\n\n")[0].split()).replace("|", r"\|")
        rows.append(f"| `{name}` | {sentence} | {settings(value_class)} | {source(value_class)} |")
    return "\n".join(rows)


@pytest.mark.parametrize(("marker", "base"), [("estimators", Estimator), ("tasks", Task)])
def test_tables_equal_the_registries(marker: str, base: type[Value]) -> None:
    (found,) = re.findall(rf"<!-- {marker} -->\n(.*?)<!-- /{marker} -->", README, re.DOTALL)
    assert found.strip() == table(base), f"put this table into README.md:\n{table(base)}"


def commands() -> Iterator[str]:
    for block in blocks("sh"):
        yield from (line.partition("#")[0].strip() for line in block.replace("\\\n", " ").splitlines())


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {command.split()[1] for command in commands() if command.startswith("make ")}
    assert {"demo", "up", "test", "lint", "format"} <= named <= targets


@pytest.mark.parametrize("command", sorted({c for c in commands() if c.startswith("reinmax ")}))
def test_commands_of_the_command_line_exist(command: str) -> None:
    _, name, *rest = shlex.split(command)
    reinmax = Path(sys.executable).parent / "reinmax"
    done = subprocess.run([reinmax, name, "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    for option in (word for word in rest if word.startswith("--")):
        assert option in done.stdout


@pytest.mark.parametrize("file", sorted(set(re.findall(r"(?:^|\s)-f (\S+)", README))))
def test_compose_files_exist(file: str) -> None:
    assert (ROOT / file).is_file()


def test_the_tree_names_what_exists() -> None:
    (tree,) = (block for block in blocks("") if block.startswith("reinmax_core/"))
    folder = ROOT
    for line in tree.splitlines():
        if not line.startswith(" "):
            folder = ROOT / line.split("/")[0]
        names = re.findall(r"\w+(?:\.py|/)", line)
        assert names
        for name in names:
            assert (folder / name).exists() or (ROOT / name).exists(), name


def programs() -> Iterator[str]:
    yield from (block for block in blocks("python") if "Client" not in block)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model of a short run, as a job on images leaves it."""
    from reinmax_core import RunSpec, Trainer
    from reinmax_core.checkpoint import save_to

    folder = tmp_path_factory.mktemp("trained")
    task = {"name": "categorical_vae", "bound_images": 10, "bound_samples": 2}
    trainer = Trainer(RunSpec.model_validate({"task": task, "estimator": "reinmax", "steps": 3}))
    for _ in trainer:
        pass
    save_to(folder, trainer)
    return folder


@pytest.mark.parametrize("program", list(programs()))
def test_programs_run(program: str, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_an_estimator_is_one_file(tmp_path: Path) -> None:
    """The README's example, dropped into a copy of the package, is found, trained and listed."""
    import reinmax_core

    (program,) = (block for block in blocks("python") if "class MyEstimator" in block)
    shutil.copytree(Path(reinmax_core.__file__).parent, tmp_path / "reinmax_core")
    (tmp_path / "reinmax_core" / "estimators" / "my_estimator.py").write_text(program)
    use = """
        import reinmax_core
        from reinmax_core import RunSpec, Trainer
        spec = RunSpec.model_validate({"task": "polynomial", "estimator": "my_estimator", "steps": 2})
        print([progress.step for progress in Trainer(spec)], reinmax_core.__file__)
    """
    source_code = "\n".join(line.strip() for line in use.splitlines())
    done = subprocess.run([sys.executable, "-c", source_code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(" /")[0] == "[1, 2]"
    assert str(tmp_path) in done.stdout
