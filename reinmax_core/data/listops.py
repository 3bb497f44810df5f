"""Nested operations on digits, whose value a parser of their structure can tell."""

from __future__ import annotations

import gzip
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Literal, final

from reinmax_core.data.base import Citation, DataSet, DataSource, DataUnavailable
from reinmax_core.data.file import DataCorrupt, DataFile

EXPRESSIONS: Final = 100_000
"""Number of expressions of the published data set, and of this one."""

GZIP: Final = b"\x1f\x8b"
ANEW: Final = "drawn anew from the published process, not the published file"


@dataclass(frozen=True, slots=True)
class Expressions:
    """Expressions in the order of their file."""

    labels: tuple[int, ...]
    """Their values, 0 to 9."""
    texts: tuple[str, ...]
    """With binary brackets, such as `( ( ( [MAX 2 ) 7 ) ] )`."""


@dataclass(frozen=True, slots=True)
class ListopsData:
    """The three parts of the data set."""

    train: Expressions
    valid: Expressions
    test: Expressions
    origin: str
    """Where the training expressions come from, in words."""


def _compressed(name: str, size: int, sha256: str, md5: str) -> DataFile:
    return DataFile(name=f"listops/{name}.gz", bytes=size, sha256=sha256, md5=md5, urls=())


@final
class Listops(DataSet):
    """Values of 89,000 training, 1,000 validation and 10,000 test expressions such as `[MAX 2 9 [MIN 4 7 ] 0 ]`.

    Validation and test expressions are the published ones. No checksum of the published training file is
    known: a `listops/train_d20s.tsv` or `.tsv.gz` in a data folder is read if its 90,000 lines are different
    and fully bracketed expressions after their values and no test expressions; validation expressions,
    which published results took from it, are left out. Where no folder has it, `train_d20s_regenerated.tsv` stands
    in for it, drawn from the published process; where none has that either, `load` draws it once more, to
    the same last byte. The notes of a result say which it was.
    """

    name: Literal["listops"] = "listops"

    title: ClassVar[str] = "ListOps"
    terms: ClassVar[str] = "MIT-style licence, (c) 2018 New York University"
    citation: ClassVar[Citation] = Citation(
        authors="Nikita Nangia, Samuel R. Bowman",
        title="ListOps: A Diagnostic Dataset for Latent Tree Learning",
        year=2018,
        link="https://arxiv.org/abs/1804.06028",
    )
    files: ClassVar[tuple[DataFile, ...]] = (
        DataFile(
            name="listops/train_d20s_regenerated.tsv",
            bytes=24578364,
            sha256="adda722627c5943a942e266faf86b2179dd76dc88cfbcb42bc7960f2a97aa7ef",
            md5="eb94369375dc49d49fa9fb89723c9257",
            urls=(),
            generated=True,
            alternative=_compressed(
                "train_d20s_regenerated.tsv",
                3267969,
                "733000de7b3e7b05f08dedc82d0d5f95e773c3e5bba7e7c2962f7d30aa535e8a",
                "8fb31bdf487bdd949802562fc1464fec",
            ),
        ),
        DataFile(
            name="listops/valid.tsv",
            bytes=294531,
            sha256="f9e96e70990dfd863e7652fb94c454b3ca9d08a10bf0a775a780ba485452725b",
            md5="295039f9ef101f27a2969249854f224f",
            urls=(
                "https://raw.githubusercontent.com/chijames/GST/8afc540476c05bf4d55a7c8b4a04a8ce98823d06/data/listops/valid.tsv",
            ),
            alternative=_compressed(
                "valid.tsv",
                39727,
                "ad44be93da121e64f1fab28c1fd3b83f274c17264e07c31c3317406800cee766",
                "bbc68a69c4f5a01fa88357a30ca37a90",
            ),
        ),
        DataFile(
            name="listops/test_d20s.tsv",
            bytes=2804179,
            sha256="71335416e6896e8dd8dc69281c8ed9b37316382d05d3705d660461564e843840",
            md5="a533eeca66c3b8a9ca7ddc47d4e5254b",
            urls=(
                "https://raw.githubusercontent.com/nyu-mll/spinn/listops-release/python/spinn/data/listops/test_d20s.tsv",
            ),
            alternative=_compressed(
                "test_d20s.tsv",
                373271,
                "dd84d1e7e5760d2544d1140ef541dff6936676d2a74b733c1a8d5f75a384e440",
                "7b7b221ed76e395c0add8945d3ac2cc3",
            ),
        ),
    )

    own_files: ClassVar[Mapping[str, tuple[str, ...]]] = {
        files[0].name: ("listops/train_d20s.tsv", "listops/train_d20s.tsv.gz")
    }

    def load(self, source: DataSource) -> ListopsData:
        """The expressions of all three parts; see `DataSet.load`."""
        train, *published = self.files
        valid, test = (read(source.fetch(file)) for file in published)
        if own := self.own(train, source):
            return _with_own(Path(own.path), valid, test)
        try:
            path = source.fetch(train)
        except DataUnavailable:
            path = _generated(train, source, valid.texts + test.texts)
        return ListopsData(read(path), valid, test, origin=ANEW)


def _with_own(path: Path, valid: Expressions, test: Expressions) -> ListopsData:
    from reinmax_core.data.listops_training import LINES, training_expressions

    train = training_expressions(path, valid, test)
    origin = (
        f"the published file {path.name}, as far as its form and all its labels tell, without the "
        f"{LINES - len(train.texts):,} validation expressions in it"
    )
    return ListopsData(train, valid, test, origin)


def _generated(file: DataFile, source: DataSource, held_out: tuple[str, ...]) -> Path:
    """The path of the training file, once it is drawn and found to be what it should be."""
    from reinmax_core.data.listops_generator import regenerated

    path = source.directory / file.name
    path.parent.mkdir(parents=True, exist_ok=True)
    # Processes that do this at once write equal files, of which the last one stays.
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as partial:
        partial.write(regenerated(held_out, EXPRESSIONS))
    os.replace(partial.name, path)
    return file.verify(path)


def read(path: Path) -> Expressions:
    """The expressions of a file with a line `label<TAB>expression` each, compressed or not.

    Raises:
        DataCorrupt: the file has other lines.
    """
    content = path.read_bytes()
    text = (gzip.decompress(content) if content.startswith(GZIP) else content).decode()
    try:
        labels, texts = zip(*(line.split("\t") for line in text.splitlines()), strict=True)
        return Expressions(tuple(map(int, labels)), texts)
    except ValueError as error:
        raise DataCorrupt(
            f"{path} should have a number, a tab and an expression in every line, but has not: {error}; fetch it again"
        ) from error
