"""ListOps: the published expressions and their values, how they are read, and runs on them."""

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from reinmax_core import RunSpec, Trainer
from reinmax_core.checkpoint import encode, restore
from reinmax_core.data import DataSource
from reinmax_core.data.expressions import encoded, plain, vocabulary
from reinmax_core.data.file import DataCorrupt
from reinmax_core.data.listops import Listops as ListopsDataSet
from reinmax_core.data.listops import ListopsData, read
from reinmax_core.data.listops_generator import Generator, regenerated
from reinmax_core.estimators import StraightThrough
from reinmax_core.tasks.listops import TRAINING_EXPRESSIONS, Listops, Splits

SMALL = {"name": "listops", "tokens": "words", "embedding": 8, "hidden": 8}


@pytest.fixture(scope="module")
def data() -> ListopsData:
    return ListopsDataSet().load(DataSource.from_environment())


def value(expression: str) -> int:
    """An independent evaluator: a stack of argument lists, statistics by counting."""
    stack: list[list[Any]] = [[]]
    for word in expression.replace("(", " ").replace(")", " ").split():
        if word.startswith("["):
            stack.append([word[1:]])
        elif word == "]":
            operator, *arguments = stack.pop()
            ranked = sorted(arguments)
            middle = ranked[len(ranked) // 2] + ranked[~(len(ranked) // 2)]
            results = {"MIN": ranked[0], "MAX": ranked[-1], "MED": int(middle / 2), "SM": sum(ranked) % 10}
            stack[-1].append(results[operator])
        else:
            stack[-1].append(int(word))
    ((result,),) = stack
    return int(result)


def test_all_labels_are_the_values_of_their_expressions(data: ListopsData) -> None:
    parts = (data.train, data.valid, data.test)
    assert [len(part.texts) for part in parts] == [89_000, 1_000, 10_000]
    for part in (data.valid, data.test):
        assert tuple(value(text) for text in part.texts) == part.labels
    assert [value(text) for text in data.train.texts[::20]] == list(data.train.labels[::20])
    assert len({text for part in parts for text in part.texts}) == 100_000, "no expression twice"


def test_the_published_number_of_expressions_is_short_enough() -> None:
    task = Listops()
    parts = task.data(torch.device("cpu"), DataSource.from_environment())
    assert [len(part) for part in (parts.train, parts.valid, parts.test)] == [TRAINING_EXPRESSIONS, 857, 8689]
    assert (int(parts.valid.lengths.median()), int(parts.valid.lengths.max())) == (37, 229)
    assert parts.test.labels.unique().tolist() == list(range(1, 11))
    words = Listops(tokens="words").data(torch.device("cpu"), DataSource.from_environment())
    assert (int(words.valid.lengths.median()), int(words.valid.lengths.max())) == (17, 99)
    assert torch.equal(words.valid.labels, parts.valid.labels)


def test_vocabularies_are_those_of_the_expressions(data: ListopsData) -> None:
    texts = [plain(text) for text in data.test.texts]
    assert vocabulary("characters")[:2] == vocabulary("words")[:2] == ("<unk>", "<pad>")
    assert set(vocabulary("characters")[2:]) == set("".join(texts))
    assert set(vocabulary("words")[2:]) == {word for text in texts for word in text.split()}
    assert (len(vocabulary("characters")), len(vocabulary("words"))) == (21 + 2, 16 + 2)


@pytest.mark.parametrize("reading", ["characters", "words"])
def test_numbers_of_tokens_spell_the_expression(reading: Any) -> None:
    texts = [plain("( ( ( [MAX 2 ) ( ( ( [SM 4 ) 7 ) ] ) ) ] )"), plain("5")]
    assert texts == ["[ MAX 2 [ SM 4 7 ] ]", "5"]
    tokens, lengths = encoded(texts, reading)
    names = vocabulary(reading)
    spelled = [[names[number] for number in row] for row in tokens.tolist()]
    expected = [list(text) if reading == "characters" else text.split() for text in texts]
    assert spelled == [row + ["<pad>"] * (len(expected[0]) - len(row)) for row in expected]
    assert lengths.tolist() == [len(row) for row in expected]
    assert encoded(["?"], reading)[0].tolist() == [[0]], "unknown"


@pytest.fixture
def poor(tmp_path: Path) -> DataSource:
    """A source without a training file."""
    mirror, source = tmp_path / "mirror", DataSource.from_environment()
    for file in ListopsDataSet.files[1:]:
        found, path = source.found(file)
        (mirror / found.name).parent.mkdir(parents=True, exist_ok=True)
        (mirror / found.name).write_bytes(path.read_bytes())
    return DataSource(directory=tmp_path / "own", mirrors=(str(mirror),))


def test_the_digest_of_the_training_file_is_known_before_it_is_drawn(tmp_path: Path, poor: DataSource) -> None:
    digests = ListopsDataSet().digests(poor)
    assert digests["listops/train_d20s_regenerated.tsv"] == ListopsDataSet.files[0].sha256
    assert len(digests) == 3
    assert not list((tmp_path / "own").rglob("*.tsv")), "nothing is drawn to tell a digest"


@pytest.mark.slow
def test_the_training_set_is_drawn_again_to_the_last_byte(tmp_path: Path, poor: DataSource, data: ListopsData) -> None:
    before = ListopsDataSet().digests(poor)
    assert ListopsDataSet().load(poor) == data
    assert ListopsDataSet().availability(poor).available
    assert ListopsDataSet().digests(poor) == before
    assert [path.name for path in (tmp_path / "own" / "listops").glob("train*")] == ["train_d20s_regenerated.tsv"]


def test_drawn_expressions_have_the_values_they_are_labelled_with() -> None:
    lines = regenerated(["1", "2"], 500).splitlines()
    assert len({line.split("\t")[1] for line in lines} - {"1", "2"}) == len(lines) == 498
    assert all(value(text) == int(label) for label, text in (line.split("\t") for line in lines))
    assert regenerated(["1", "2"], 500).splitlines() == lines


def test_a_quarter_of_nodes_are_operators_of_two_to_five_arguments() -> None:
    generator = Generator(seed=1)
    texts = [generator.draw()[1] for _ in range(4000)]
    operators = sum(text.startswith("(") for text in texts)
    assert abs(operators - 1000) < 5 * (4000 * 0.25 * 0.75) ** 0.5
    arguments = [count_of_arguments(text) for text in texts if text.startswith("(")]
    assert {count: arguments.count(count) > len(arguments) / 5 for count in set(arguments)} == dict.fromkeys(
        range(2, 6), True
    )


def count_of_arguments(text: str) -> int:
    """Arguments of the outermost operator."""
    depth, count = 0, 0
    for word in plain(text).split():
        depth -= word == "]"
        count += depth == 1 and (word == "[" or word.isdigit())
        depth += word == "["
    return count


@pytest.mark.parametrize("content", ["7 ( [MAX 7 ) ]\n", "x\t7\n", ""])
def test_what_are_no_labelled_expressions_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "train.tsv"
    path.write_text(content)
    with pytest.raises(DataCorrupt, match="a number, a tab and an expression"):
        read(path)


def test_the_published_protocol_fills_the_gaps() -> None:
    spec = RunSpec.model_validate({"task": "listops", "estimator": "reinmax"})
    assert (spec.estimator.tau, spec.optimizer.name, spec.optimizer.lr) == (1.1, "radam", 7e-4)
    assert spec.optimizer.clip_norm == 5
    assert (spec.optimizer.schedule.factor, spec.optimizer.schedule.patience) == (0.5, 4)
    assert spec.steps == 20 * spec.task.steps_per_epoch
    assert spec.evaluate_every == spec.task.steps_per_epoch // 2
    with pytest.raises(ValueError, match="needs a pathwise estimator"):
        RunSpec.model_validate({"task": "listops", "estimator": "rloo"})


def test_a_resumed_run_ends_bit_for_bit_as_an_undisturbed_one() -> None:
    spec = RunSpec.model_validate({"task": SMALL, "estimator": "gumbel_rao", "steps": 6, "evaluate_every": 6})
    whole, stopped, resumed = Trainer(spec), Trainer(spec), Trainer(spec)
    for _ in whole:
        pass
    for _ in islice(stopped, 3):
        pass
    restore(resumed, encode(stopped))
    for _ in resumed:
        pass
    assert resumed.final == whole.final
    assert resumed.result().notes == {"training_set": "drawn anew from the published process, not the published file"}
    pairs = zip(whole.model.parameters(), resumed.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_metrics_are_those_of_each_expression_by_itself() -> None:
    task = Listops.model_validate(SMALL)
    everything = task.data(torch.device("cpu"), DataSource.from_environment())
    train, valid, test = (
        part.at(torch.arange(0, len(part), 9)) for part in (everything.train, everything.valid, everything.test)
    )
    parts = Splits(train, valid, test, everything.origin)
    torch.manual_seed(0)
    model = task.model()
    with torch.no_grad():
        model.output.weight.mul_(1000)  # so that labels differ
        metrics = task.evaluate(model, parts, StraightThrough(), torch.Generator())
        right = loss = 0.0
        for row in range(len(parts.valid)):
            one = parts.valid.at(torch.tensor([row]))
            logits = model.likeliest(one.tokens.long(), one.lengths.tolist())[0].double()
            right += int(logits.argmax() == one.labels[0])
            loss -= logits.log_softmax(-1)[one.labels[0]].item()
    assert metrics["valid_accuracy"] == pytest.approx(right / 96)
    assert metrics["valid_loss"] == pytest.approx(loss / 96, rel=1e-4)
    assert set(metrics) == {f"{part}_{kind}" for part in ("valid", "test") for kind in ("accuracy", "loss")}
