"""Plug points: names, clashes, and plug-ins that do not load."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from plugin_packages import install

from dfmobile import registry
from dfmobile.architecture.spaces import open_space
from dfmobile.architecture.spaces.df import df_space
from dfmobile.errors import MissingExtraError, PluginError

Install = Callable[..., None]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Return a function that installs packages for one test; nothing is remembered afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def add(name: str, entry_points: dict[str, dict[str, str]], **modules: str) -> None:
        install(tmp_path, name, entry_points, {f"{module}.py": source for module, source in modules.items()})
        registry._group.cache_clear()

    yield add
    registry._group.cache_clear()
    for module in set(sys.modules) - before:
        if (origin := getattr(sys.modules[module], "__file__", None)) and origin.startswith(str(tmp_path)):
            del sys.modules[module]


def test_every_built_in_is_registered_and_loads() -> None:
    assert registry.load("dfmobile.spaces", "df") is df_space
    for group in registry.GROUPS:
        assert registry.names(group), group
        for name in registry.names(group):
            assert callable(registry.load(group, name))


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(PluginError, match="unknown name 'nas' among the spaces") as caught:
        registry.load("dfmobile.spaces", "nas")
    assert caught.value.hint == f"known: {', '.join(registry.names('dfmobile.spaces'))}"


def test_unknown_plug_points_are_refused() -> None:
    with pytest.raises(PluginError, match=r"unknown plug point 'dfmobile\.colours'"):
        registry.names("dfmobile.colours")


def test_a_name_clash_is_an_error_that_names_both_packages(installed: Install) -> None:
    installed("other-df", {"dfmobile.spaces": {"df": "other_df:space"}}, other_df="def space(max_depth=None): ...")
    for use in (lambda: registry.names("dfmobile.spaces"), lambda: open_space("df"), lambda: open_space("df-mini")):
        with pytest.raises(PluginError, match=r"two plug-ins of dfmobile\.spaces are called 'df'") as caught:
            use()
        assert "dfmobile.architecture.spaces.df:df_space (package dfmobile)" in str(caught.value)
        assert "other_df:space (package other-df)" in str(caught.value)
        assert "rename" in caught.value.hint
    assert "litert" in registry.names("dfmobile.backends")  # another plug point goes on working


def test_two_third_parties_clash_too(installed: Install) -> None:
    for name in ("one", "two"):
        installed(f"package-{name}", {"dfmobile.spaces": {"mine": f"{name}:space"}})
    with pytest.raises(PluginError, match="are called 'mine'") as caught:
        registry.names("dfmobile.spaces")
    assert "(package package-one)" in str(caught.value)
    assert "(package package-two)" in str(caught.value)


def test_the_same_package_listed_twice_is_no_clash(installed: Install) -> None:
    for folder in ("mine", "mine-copy"):
        installed(folder, {"dfmobile.spaces": {"mine": "mine_space:space"}})
    assert "mine" in registry.names("dfmobile.spaces")


@pytest.mark.parametrize(
    ("source", "value", "says"),
    [
        ("import a_package_that_is_not_here", "broken:space", "No module named 'a_package_that_is_not_here'"),
        ("", "broken:space", "AttributeError"),
        ("raise RuntimeError('built for another version')", "broken:space", "RuntimeError: built for another version"),
        ("def space(:", "broken:space", "SyntaxError"),
        ("", "not_there:space", "No module named 'not_there'"),
    ],
)
def test_what_cannot_be_imported_says_whose_it_is(installed: Install, source: str, value: str, says: str) -> None:
    installed("broken-package", {"dfmobile.spaces": {"broken": value}}, broken=source)
    with pytest.raises(PluginError) as caught:
        registry.load("dfmobile.spaces", "broken")
    assert says in str(caught.value)
    assert "(package broken-package)" in str(caught.value)
    assert "reinstall" in caught.value.hint
    assert open_space("df").name == "df"  # the others still work


def test_a_missing_extra_of_a_plug_in_is_said_as_such(installed: Install) -> None:
    source = "from dfmobile.errors import MissingExtraError\nraise MissingExtraError('needs x', hint='pip install x')"
    installed("needy", {"dfmobile.spaces": {"needy": "needy_module:space"}}, needy_module=source)
    with pytest.raises(MissingExtraError, match="needs x"):
        registry.load("dfmobile.spaces", "needy")


def test_a_space_that_is_none_is_refused(installed: Install) -> None:
    installed("odd", {"dfmobile.spaces": {"odd": "odd_module:space"}}, odd_module="def space(max_depth): return 5")
    with pytest.raises(PluginError, match=r"'odd' of dfmobile\.spaces returns int, not a SearchSpace"):
        open_space("odd")
