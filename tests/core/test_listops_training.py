"""The training file of ListOps that a user has: what is taken, what is left out, what is refused, what results say."""

import gzip
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import torch

from reinmax_core import RunSpec, Trainer
from reinmax_core.data import DataCorrupt, DataSource
from reinmax_core.data.listops import Expressions, Listops, ListopsData
from reinmax_core.data.listops_training import training_expressions
from reinmax_core.data.listops_values import values
from reinmax_core.tasks.listops import Listops as ListopsTask

VALID = Expressions((2, 5), ("( ( ( [MIN 2 ) 7 ) ] )", "5"))
TEST = Expressions((7,), ("( ( ( [MAX 2 ) 7 ) ] )",))
LINES = (
    "9\t( ( ( [SM 2 ) 7 ) ] )",
    "2\t( ( ( [MIN 2 ) 7 ) ] )",
    "4\t( ( ( [MED 2 ) ( ( ( ( ( ( [MAX 1 ) 7 ) 6 ) 0 ) 3 ) ] ) ) ] )",
    "0\t0",
)
PUBLISHED_NAME = "listops/train_d20s.tsv"
TRAINING_FILE = Listops.files[0].name


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    def write(*lines: str, ending: str = "\n") -> Path:
        path = tmp_path / "train_d20s.tsv"
        path.write_bytes("".join(line + ending for line in lines).encode())
        return path

    return write


@pytest.fixture(scope="module")
def anew() -> ListopsData:
    return Listops().load(DataSource.from_environment())


@pytest.fixture(scope="module")
def content(anew: ListopsData) -> bytes:
    """A file as the published one must be: 90,000 lines, those of the validation set somewhere among them."""
    lines = [
        f"{label}\t{text}\n"
        for part in (anew.train, anew.valid)
        for label, text in zip(part.labels, part.texts, strict=True)
    ]
    Random(0).shuffle(lines)
    return "".join(lines).encode()


def own_source(folder: Path) -> DataSource:
    environment = DataSource.from_environment()
    return DataSource(directory=folder, mirrors=(str(environment.directory.expanduser()), *environment.mirrors))


def put(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_all_published_expressions_have_their_published_values(anew: ListopsData) -> None:
    for part in (anew.valid, anew.test):
        assert list(map(int, values(part.texts))) == list(part.labels)
    assert list(map(int, values(anew.train.texts[::10]))) == list(anew.train.labels[::10])


def test_expressions_are_kept_in_order_without_those_for_validation(written: Callable[..., Path]) -> None:
    found = training_expressions(written(*LINES), VALID, TEST, lines=4)
    assert found == Expressions((9, 4, 0), tuple(line.split("\t")[1] for line in (LINES[0], LINES[2], LINES[3])))
    assert training_expressions(written(*LINES, ending="\r\n"), VALID, TEST, lines=4) == found


@pytest.mark.parametrize(
    "line",
    [
        "", "7", "7 7", "x", "\t", "1\t", "7\t7\t7", "7\t 7", "7\t77", "7\t²",
        "7\t[MAX 2 7 ]",  # no binary brackets
        "7\t( ( ( [MAX 2 ) 7 ] )",  # one too few
        "7\t( ( ( ( [MAX 2 ) 7 ) ] )",  # one too many
        "7\t( ( ( ( [MAX 2 ) 7 ) ] ) )",
        "7\t( ( [MAX 7 ) ] )",  # one argument
        "6\t( ( ( ( ( ( ( [MAX 1 ) 2 ) 3 ) 4 ) 5 ) 6 ) ] )",  # six
        "7\t( ( ( [AVG 2 ) 7 ) ] )",
        "7\t( ( ( [MAX 2 ) 17 ) ] )",
    ],
)  # fmt: skip
def test_a_line_that_is_no_bracketed_expression_is_refused(written: Callable[..., Path], line: str) -> None:
    path = written(*LINES[:2], line)
    message = f"line 3 of {path} should be a label, a tab and a fully bracketed expression"
    with pytest.raises(DataCorrupt, match=re.escape(message)) as refusal:
        training_expressions(path, VALID, TEST, lines=3)
    assert str(refusal.value).endswith("or remove this one, and the training set is drawn anew")


@pytest.mark.parametrize(
    ("line", "mistake"),
    [
        ("8\t( ( ( [SM 2 ) 7 ) ] )", "have the label '9', the value of its expression, but has '8'"),
        ("x\t5", "have the label '5', the value of its expression, but has 'x'"),
        ("7\t( ( ( [MAX 2 ) 7 ) ] )", "be no test expression, but is one: '( ( ( [MAX 2 ) 7 ) ] )'"),
        (LINES[1], "have an expression of its own, but repeats that of line 2"),
    ],
)
def test_a_line_that_cannot_be_one_of_the_published_is_refused(
    written: Callable[..., Path], line: str, mistake: str
) -> None:
    path = written(*LINES, line)
    with pytest.raises(
        DataCorrupt, match=re.escape(f"line 5 of {path} should {mistake}; put the published file there")
    ):
        training_expressions(path, VALID, TEST, lines=5)


def test_expressions_nested_deeper_than_published_are_refused(written: Callable[..., Path]) -> None:
    text = "1"
    for _ in range(10_000):
        text = f"( ( ( [MAX 0 ) {text} ) ] )"
    with pytest.raises(DataCorrupt, match=r"line 1 of .* should be a label"):
        training_expressions(written(f"1\t{text}"), VALID, TEST, lines=1)


def test_another_number_of_lines_is_refused(written: Callable[..., Path]) -> None:
    with pytest.raises(DataCorrupt, match=r"train_d20s.tsv should have 90,000 lines, but has 4; put the published"):
        training_expressions(written(*LINES), VALID, TEST)


@pytest.mark.parametrize("content", [gzip.compress(b"7\t7\n", mtime=0)[:-9], b"\x1f\x8b nothing", b"\xff\xfe7\t7\n"])
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes) -> None:
    path = put(tmp_path, PUBLISHED_NAME, content)
    with pytest.raises(DataCorrupt, match=re.escape(f"{path} should be text, or whole gzipped text")):
        training_expressions(path, VALID, TEST)


def test_a_whole_file_is_taken_without_the_validation_set(tmp_path: Path, anew: ListopsData, content: bytes) -> None:
    put(tmp_path, PUBLISHED_NAME, content)
    data = Listops().load(own_source(tmp_path))
    assert sorted(data.train.texts) == sorted(anew.train.texts)
    assert data.train.texts != anew.train.texts, "the order is that of the file"
    assert (data.valid, data.test) == (anew.valid, anew.test)


@pytest.mark.parametrize("name", [PUBLISHED_NAME, f"{PUBLISHED_NAME}.gz"])
def test_the_file_in_use_is_told_with_its_checksum(tmp_path: Path, name: str) -> None:
    source, data_set = own_source(tmp_path), Listops()
    assert data_set.availability(source).found[0].read.startswith(TRAINING_FILE)
    path = put(tmp_path, name, b"whatever")
    found = data_set.availability(source).found[0]
    assert (found.name, found.read, found.path) == (TRAINING_FILE, name, str(path))
    digests = data_set.digests(source)
    assert digests[name] == hashlib.sha256(b"whatever").hexdigest()
    assert len(digests) == 3
    assert not any("regenerated" in digest for digest in digests)


def test_a_file_in_a_mirror_folder_is_read_where_it_lies(tmp_path: Path) -> None:
    path = put(tmp_path / "mirror", f"{PUBLISHED_NAME}.gz", b"")
    source = DataSource(directory=tmp_path / "own", mirrors=("https://mirror.invalid", str(tmp_path / "mirror")))
    own = Listops().own(Listops.files[0], source)
    assert own is not None
    assert own.path == str(path)
    assert Listops().own(Listops.files[1], source) is None


def test_a_file_that_comes_changes_and_goes_is_noticed_and_results_say_so(
    tmp_path: Path, anew: ListopsData, content: bytes
) -> None:
    source, task = own_source(tmp_path), ListopsTask(tokens="words", embedding=4, hidden=4)
    before = task.data(torch.device("cpu"), source)
    path = put(tmp_path, f"{PUBLISHED_NAME}.gz", gzip.compress(content, 1, mtime=0))
    trainer = Trainer(RunSpec(task=task, estimator="straight_through", steps=1), source=source)
    note = "the published file train_d20s.tsv.gz, as far as its form and all its labels tell, without the 1,000"
    assert trainer.result().notes == {"training_set": f"{note} validation expressions in it"}
    assert not torch.equal(trainer.data.train.labels, before.train.labels)
    path.write_bytes(b"7\t7\n")
    with pytest.raises(DataCorrupt, match="should have 90,000 lines"):
        task.data(torch.device("cpu"), source)
    path.unlink()
    after = task.data(torch.device("cpu"), source)
    assert after.origin == before.origin == anew.origin
    assert torch.equal(after.train.labels, before.train.labels)
