import pytest

from blockjac.optimize.files import check_file, check_folder, write_whole


def test_folders_are_made_and_left_clean(tmp_path):
    assert check_folder(tmp_path / "a" / "b").is_dir()
    assert not list((tmp_path / "a" / "b").iterdir())


def test_a_check_leaves_the_file_alone(tmp_path):
    (tmp_path / "old.json").write_text("old")
    assert check_file(tmp_path / "old.json").read_text() == "old"
    assert check_file(tmp_path / "new.json").exists() is False


def test_a_file_is_replaced_as_a_whole(tmp_path):
    (tmp_path / "result").write_bytes(b"old")
    assert write_whole(tmp_path / "result", b"new").read_bytes() == b"new"
    assert [file.name for file in tmp_path.iterdir()] == ["result"]


def test_a_write_that_fails_leaves_nothing_behind(tmp_path):
    (tmp_path / "result").mkdir()
    with pytest.raises(OSError, match=r"cannot write '.*result': Is a directory"):
        write_whole(tmp_path / "result", b"new")
    assert [file.name for file in tmp_path.iterdir()] == ["result"]
    with pytest.raises(OSError, match=r"cannot write '.*': No such file or directory"):
        write_whole(tmp_path / "none" / "result", b"new")
