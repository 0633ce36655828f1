"""Errors carry a hint; a missing extra names the command that installs it; user text is shown on one short line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfmobile import errors
from dfmobile.errors import DfmobileError, MissingExtraError, import_extra, quoted


def test_every_error_is_a_dfmobile_error_with_a_hint() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 10
    for kind in kinds:
        assert issubclass(kind, DfmobileError)
        error = kind("what is wrong", hint="what to do")
        assert (str(error), error.hint) == ("what is wrong", "what to do")
        assert kind("what is wrong").hint == ""


def test_errors_that_carry_more() -> None:
    assert errors.LockedError("held", holder_pid=7).holder_pid == 7
    assert errors.MissingBlocksError("lacks", keys=("a", "b")).keys == ("a", "b")
    assert issubclass(errors.EncodingError, errors.InputError)


class TestImportExtra:
    def test_gives_the_module(self) -> None:
        assert import_extra("json", "train", "reading") is sys.modules["json"]

    def test_absent(self) -> None:
        with pytest.raises(MissingExtraError) as caught:
            import_extra("no_such_module", "train", "training")
        assert str(caught.value) == (
            "training needs no_such_module, which cannot be imported: no_such_module is not installed"
        )
        assert caught.value.hint == "python -m pip install 'dfmobile[train]'"

    def test_something_that_it_imports_is_absent(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "needs_another.py").write_text("import the_other_one")
        monkeypatch.syspath_prepend(str(tmp_path))
        with pytest.raises(MissingExtraError, match=r"needs needs_another, .*: the_other_one is not installed"):
            import_extra("needs_another", "onnx", "export")

    def test_present_but_broken_is_not_called_absent(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "half_there.py").write_text("raise ImportError('libfoo.so.1:\\n  cannot open shared object file')")
        monkeypatch.syspath_prepend(str(tmp_path))
        with pytest.raises(MissingExtraError) as caught:
            import_extra("half_there", "onnx", "export")
        assert str(caught.value).endswith("cannot be imported: libfoo.so.1: cannot open shared object file")


class TestQuoted:
    @given(st.text(max_size=300), st.integers(1, 100))
    def test_is_one_line_of_bounded_length(self, text: str, limit: int) -> None:
        shown = quoted(text, limit)
        assert len(shown.splitlines()) == 1
        assert len(shown) <= 10 * limit + 30  # a character's longest escape has ten

    def test_short_text_is_shown_whole(self) -> None:
        assert quoted("df/64/64") == "'df/64/64'"
        assert quoted("a\nb\0") == r"'a\nb\x00'"

    def test_long_text_says_how_long_it_is(self) -> None:
        assert quoted("x" * 1_000_000, 5) == "'xxxxx'… (1000000 characters)"
