"""Environments for the functions of the tests, each made once in a run.

`fake` needs no package index: an environment without packages in which the fake of func-python and
this run's own uvicorn are found. `real` is made by pip, as for any function.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import uvicorn

from relume.runtimes.function.environments import EnvironmentNotMade, Environments, wanted

HERE = Path(__file__).parent
ALL = HERE / "all"


@pytest.fixture(scope="session")
def fake_environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which the environment of the function `all` is made with the fake."""
    root = tmp_path_factory.mktemp("fake")
    folder = root / wanted("all", ALL).key
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    found = f"{HERE / 'fake'}\n{Path(uvicorn.__file__).parents[1]}\n"
    (packages / "found.pth").write_text(found, encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def real_environments(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """A store whose environments pip makes."""
    root = tmp_path_factory.mktemp("real")
    return lambda: root


@pytest.fixture(params=["fake", "real"])
async def python(
    request: pytest.FixtureRequest,
    fake_environments: Path,
    real_environments: Callable[[], Path],
) -> Path:
    """The interpreter of an environment in which func-python, or its fake, is installed."""
    root = fake_environments if request.param == "fake" else real_environments()
    async with Environments(root) as environments:
        try:
            return await environments.python(wanted("all", ALL))
        except EnvironmentNotMade as error:
            if os.environ.get("CI"):
                raise  # there an index must answer, else the real one is never asked
            pytest.skip(f"func-python cannot be installed here: {error}")
