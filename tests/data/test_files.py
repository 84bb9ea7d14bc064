"""Files appear whole or not at all, also where several processes write the same one."""

from __future__ import annotations

from pathlib import Path

import pytest

from worldvalue.data.files import remove_leftovers, replacing


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(TypeError), replacing(path) as partial, partial.open("w") as file:
        file.writelines(["half", None])
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.txt", "old")]


def test_two_writers_of_a_shared_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with replacing(path, shared=True) as one:
        one.write_text("half of o")
        with replacing(path, shared=True) as other:
            other.write_text("other")
        assert path.read_text() == "other"
        one.write_text("one")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.txt", "one")]


def test_clearing_up_removes_what_the_killed_left_and_spoils_no_writer_of_a_finished_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    killed = replacing(path, shared=True)
    killed.__enter__().write_text("torn")
    with replacing(path, shared=True) as late:
        late.write_text("late")
        path.write_text("whole")
        remove_leftovers(tmp_path)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.txt", "whole")]
