"""Embeddings and words that cannot be used are refused in one paragraph that says what is wrong."""

import numpy as np
import pytest
import safetensors.numpy

from netdissect.errors import ConfigError, ShapeError
from netdissect.evaluation.open_vocabulary.embedding_files import read_embeddings
from netdissect.evaluation.open_vocabulary.embedding_model import embedding_files, load_embedding_model
from netdissect.evaluation.open_vocabulary.embedding_source import word_space
from netdissect.evaluation.open_vocabulary.word_list import read_words

GOOD = np.eye(4, 3, dtype=np.float32) + 1


def changed(row, value):
    array = GOOD.copy()
    array[row] = value
    return array


@pytest.mark.parametrize(
    ("images", "words", "message"),
    [
        (GOOD[:3], GOOD, "embeddings of images have 3 rows for 4 images"),
        (GOOD, GOOD[:2], "embeddings of words have 2 rows for 4 words"),
        (GOOD, GOOD[:, :2], "images have 3 numbers each and those of words 2"),
        (changed(2, np.nan), GOOD, "images hold NaN or infinity: 1 of 4 rows, the first is row 2"),
        (GOOD, changed(1, np.inf), "words hold NaN or infinity: 1 of 4 rows, the first is row 1"),
        (GOOD, changed(3, 0), "words hold 1 rows of zeros, the first is row 3"),
        (GOOD.astype(int), GOOD, r"images are int64 \(4, 3\). Expected floating-point"),
        (GOOD[0], GOOD, r"images are float32 \(3,\)"),
    ],
)
def test_embeddings_of_another_count_or_width_and_without_direction_are_refused(images, words, message):
    with pytest.raises(ShapeError, match=message):
        word_space(images, words, 4, 4)


def test_embeddings_of_any_length_become_unit_vectors_of_their_precision():
    images = np.array([[3e30, 4e30], [3e-30, 4e-30], [0, -2], [1, 0]], np.float32)
    space = word_space(images, images.astype(np.float64), 4, 4)
    np.testing.assert_allclose(space.images, [[0.6, 0.8], [0.6, 0.8], [0, -1], [1, 0]], rtol=1e-6)
    assert space.images.dtype == np.float64
    assert word_space(images, images, 4, 4).words.dtype == np.float32


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"tree\n\ncar\n tree \n", "'tree' is word 1 and word 4"),
        (b"tree\n", "holds 1 word. Expected at least two"),
        (b"\n\n", "holds no words"),
        (b"tree\ncar\x07\n", "one that cannot be printed"),
        (b"tree\n" + b"x" * 301, "has 301 characters"),
        (b"tr\xffee\ncar\n", "no text in UTF-8 .byte 2"),
    ],
)
def test_lists_of_words_are_checked(tmp_path, content, message):
    path = tmp_path / "words.txt"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_words(path)


def test_words_are_lines_without_spaces_at_their_ends_and_case_counts(tmp_path):
    path = tmp_path / "words.txt"
    path.write_bytes("\ufeffa tree\r\n\r\n Tree\nbaño \n".encode())
    assert read_words(path) == ("a tree", "Tree", "baño")
    assert read_words(["a tree", "Tree", "baño"]) == ("a tree", "Tree", "baño")
    with pytest.raises(ConfigError, match="word 2 is empty"):
        read_words(["a", " "])
    with pytest.raises(ConfigError, match="one of the words is a int"):
        read_words(["a", 3])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match=r"no-such.txt cannot be read"):
        read_words(tmp_path / "no-such.txt")


def test_embeddings_are_read_from_two_files_or_one(tmp_path):
    images, words = tmp_path / "images.npy", tmp_path / "words.safetensors"
    np.save(images, GOOD)
    safetensors.numpy.save_file({"anything": GOOD[:2]}, words)
    both = tmp_path / "both.safetensors"
    safetensors.numpy.save_file({"images": GOOD, "words": GOOD[:2], "more": GOOD}, both)
    for spec in (f"{images},{words}", str(both)):
        found = read_embeddings(embedding_files(spec))
        np.testing.assert_array_equal(found[0], GOOD)
        np.testing.assert_array_equal(found[1], GOOD[:2])


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("gone.npy", str, "cannot be read .No such file"),
        ("short.npy", lambda path: path.write_bytes(b"\x93NUMPY"), "short.npy cannot be read"),
        ("pickled.npy", lambda path: np.save(path, np.array([{}]), allow_pickle=True), "are not unpickled"),
        ("text.npy", lambda path: path.write_text("1 2 3"), "text.npy cannot be read .it is no file of numpy.save"),
        ("header.npy", lambda path: path.write_bytes(b"\x93NUMPY\1\0\4\0{(.\n"), "header.npy cannot be read"),
        ("many.npy", lambda path: path.write_bytes(archive(path)), "archive of several arrays"),
        ("bad.safetensors", lambda path: path.write_bytes(b"12345678"), "bad.safetensors cannot be read"),
        ("two.safetensors", lambda path: safetensors.numpy.save_file({"a": GOOD, "b": GOOD}, path), "the tensors a, b"),
    ],
)  # fmt: skip
def test_files_without_embeddings_are_refused(tmp_path, name, write, message):
    path, good = tmp_path / name, tmp_path / "good.npy"
    np.save(good, GOOD)
    write(path)
    with pytest.raises(ConfigError, match=message):
        read_embeddings((path, good))


def test_a_header_that_promises_more_than_the_file_holds_takes_no_memory(tmp_path):
    path = tmp_path / "promises.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (10**9, 512)})
        file.write(bytes(64))
    with pytest.raises(ConfigError, match=r"promises\.npy cannot be read"):
        read_embeddings((path, path))


def archive(path):
    np.savez(path.with_suffix(".npz"), a=GOOD, b=GOOD)
    return path.with_suffix(".npz").read_bytes()


@pytest.mark.parametrize("spec", ["clip", "transformer:x", "images.txt"])
def test_a_spec_of_nothing_lists_what_there_is(spec):
    assert embedding_files(spec) is None
    with pytest.raises(ConfigError, match=r"the embeddings cannot be .* Expected transformers:NAME_OR_DIR"):
        load_embedding_model(spec)


def test_embeddings_of_images_alone_are_refused():
    with pytest.raises(ConfigError, match=r"are 1 file. Expected two"):
        embedding_files("images.npy")
