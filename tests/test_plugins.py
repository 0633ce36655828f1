"""A third party's package that only declares entry points works without a change in dfmobile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from plugin_packages import install

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EXAMPLE = Path(__file__).parent / "plugin_example"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder that holds the example package as installed, by its own pyproject.toml."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    source = (EXAMPLE / "dfmobile_example.py").read_text()
    install(tmp_path, project["name"], project["entry-points"], {"dfmobile_example.py": source})
    return tmp_path


def python(site: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def answer(site: Path, program: str, *arguments: str) -> Any:
    result = python(site, program, *arguments)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_without_the_package_its_names_are_unknown(tmp_path: Path) -> None:
    result = python(tmp_path, "from dfmobile.architecture.spaces import open_space; open_space('df-thin')")
    assert "InputError: unknown space 'df-thin'" in result.stderr


def test_a_space_of_a_third_party(site: Path) -> None:
    program = """
import json, numpy
from dfmobile import registry
from dfmobile.architecture.spaces import open_space
space = open_space("df-thin", max_depth=2)
print(json.dumps({
    "listed": "df-thin" in registry.names("dfmobile.spaces"), "name": space.name, "count": space.count(),
    "keys": len(space.key_index(64, 64)), "member": space.sample(1, numpy.random.default_rng(0))[0] in space,
}))
"""
    assert answer(site, program) == {
        "listed": True,
        "name": "df-thin",
        "count": 146,
        "keys": 1 + 3 * 6 + 2 * 6 + 3 + 3,
        "member": True,
    }


def test_an_evaluator_of_a_third_party(site: Path, tmp_path: Path) -> None:
    program = """
import json, pathlib, sys
from dfmobile.accuracy.base import EvaluationRequest, open_evaluator
evaluator = open_evaluator("depth", scale=0.3)
request = EvaluationRequest("df/16/16/16", seed=0, folder=pathlib.Path(sys.argv[1]))
print(json.dumps([evaluator.describe(), evaluator.evaluate(request).to_json()]))
"""
    description, evaluation = answer(site, program, str(tmp_path / "run"))
    assert description == {"name": "depth", "label": "simulated by depth, not trained", "scale": 0.3}
    assert evaluation["accuracy"] == pytest.approx(0.9)


def test_a_transport_of_a_third_party_with_a_scheme_of_its_own(site: Path) -> None:
    program = """
import json
from dfmobile.devices.device import list_devices, open_device
with open_device("rack:1/4") as device:
    said = device.transport.run(["echo", "hello"], timeout_s=60).text
print(json.dumps([str(device.uri), device.uri.scheme, said, [item.uri for item in list_devices()]]))
"""
    uri, scheme, said, listed = answer(site, program)
    assert (uri, scheme, said) == ("rack:1/4", "rack", "hello")
    assert {"local", "rack:1/4"} <= set(listed)


@pytest.mark.parametrize("address", ["", "-x", "a b", "é"])
def test_addresses_of_that_scheme_are_checked(site: Path, address: str) -> None:
    program = "import sys; from dfmobile.devices.device import open_device; open_device(sys.argv[1])"
    assert "InputError: " in python(site, program, f"rack:{address}").stderr
    assert "unknown scheme" in python(site, program, f"shelf:{address}").stderr


def test_the_command_line_knows_the_package_too(site: Path) -> None:
    program = "from dfmobile.cli.main import main; main()"
    document = answer(site, program, "space", "show", "df-thin", "--max-depth", "1", "--json")
    assert (document["name"], document["count"], document["widths"]) == ("df-thin", 10, [16, 32, 48])


def test_plug_ins_are_not_imported_before_they_are_asked_for(site: Path) -> None:
    program = """
import json, sys
from dfmobile import registry
from dfmobile.architecture.spaces import open_space
names = registry.names("dfmobile.spaces")
open_space("df")
print(json.dumps(["df-thin" in names, "dfmobile_example" in sys.modules]))
"""
    assert answer(site, program) == [True, False]
