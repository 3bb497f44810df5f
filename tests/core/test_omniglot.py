"""Omniglot: images as they should stand, what is no such file, and the derived file in the published one's place."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy
import pytest
from scipy.io import savemat

from reinmax_core.data import DataCorrupt, DataFile, DataSource, DataUnavailable, omniglot
from reinmax_core.data.omniglot import DERIVED, Omniglot

SOURCE = DataSource.from_environment()


def test_images_and_labels_have_the_published_sizes() -> None:
    data = Omniglot().load(SOURCE)
    arrays = (data.train_images, data.train_labels, data.test_images, data.test_labels)
    assert [array.shape for array in arrays] == [(24345, 28, 28), (24345,), (8070, 28, 28), (8070,)]
    for array in arrays:
        assert array.dtype == numpy.uint8
        assert array.flags.writeable
    assert (data.train_images.min(), data.train_images.max()) == (0, 255)
    assert numpy.unique(data.train_labels).tolist() == list(range(50))


def test_images_stand_upright() -> None:
    """This one, of the derived file, is a long bar on two legs."""
    image = omniglot.read(SOURCE.fetch(DERIVED)).train_images[7] > 127
    assert image[7:9].sum(1).max() > 15, "the bar lies across"
    assert image[12:21].any(1).all()
    assert (image[12:21].sum(1) <= 4).all(), "below it are two strokes a row"


def test_the_results_of_a_run_name_the_file_that_was_read() -> None:
    (file,) = Omniglot.files
    used, path = SOURCE.found(file)
    assert Omniglot().digests(SOURCE) == {used.name: hashlib.sha256(path.read_bytes()).hexdigest()}
    assert used in (file, DERIVED)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A file as published, with levels as fractions, of three training images and one test image."""
    path = tmp_path / "published.mat"
    levels = numpy.zeros((784, 3))
    levels[28 * 5 + 2, 1] = 0.6  # column 5, row 2 of the second image
    alphabets = numpy.eye(50)[:, [4, 0, 49]]
    savemat(path, {"data": levels, "target": alphabets, "testdata": levels[:, 1:2], "testtarget": alphabets[:, :1]})
    return path


def test_columns_go_down_the_image_and_fractions_become_grey_levels(small: Path) -> None:
    data = omniglot.read(small)
    assert data.train_images.shape == (3, 28, 28)
    assert numpy.argwhere(data.train_images).tolist() == [[1, 2, 5]]
    assert data.train_images[1, 2, 5] == data.test_images[0, 2, 5] == 153
    assert data.train_labels.tolist() == [4, 0, 49]
    assert data.test_labels.tolist() == [4]


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chardata.mat"
    for content in (b"", b"plain text" * 100):
        path.write_bytes(content)
        with pytest.raises(DataCorrupt, match=r"should be a MATLAB file with data, target, testdata, testtarget"):
            omniglot.read(path)
    savemat(path, {"data": numpy.zeros((784, 1))})
    with pytest.raises(DataCorrupt, match="target"):
        omniglot.read(path)


def published(content: bytes, alternative: bytes) -> DataFile:
    def file(name: str, content: bytes, **more: object) -> DataFile:
        return DataFile.model_validate({"name": name, "md5": hashlib.md5(content).hexdigest(), "urls": ()} | more)

    return file("a/published", content, alternative=file("a/derived", alternative))


def test_a_published_file_goes_before_its_alternative_and_either_will_do(tmp_path: Path) -> None:
    own, mirror = tmp_path / "own", tmp_path / "mirror"
    source = DataSource(directory=own, mirrors=(str(mirror),))
    file = published(b"one", b"other")
    assert not source.located(file)
    with pytest.raises(DataUnavailable, match=f"a/published is neither .* md5 {file.md5}"):
        source.fetch(file)

    derived = mirror / "a/derived"
    derived.parent.mkdir(parents=True)
    derived.write_bytes(b"other")
    assert source.located(file)
    assert source.found(file) == (file.alternative, derived)

    original = mirror / "a/published"
    original.write_bytes(b"one")
    assert source.located(file)
    assert source.found(file) == (file, original)


def test_a_file_known_by_its_md5_is_held_to_it(tmp_path: Path) -> None:
    file = published(b"one", b"other")
    path = tmp_path / "a/published"
    path.parent.mkdir()
    path.write_bytes(b"another")
    with pytest.raises(DataCorrupt, match=f"should have md5 {file.md5}, but .* has 7 bytes and md5 "):
        DataSource(directory=tmp_path).fetch(file)
