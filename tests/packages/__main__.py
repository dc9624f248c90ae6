"""`python -m tests.packages`: installs packages that take LangChain models; tests them.

Each file `NAME.txt` beside this one is an environment, `.venv-packages-NAME`, because not
all packages can be installed together; `test_NAME.py` has the tests. Arguments are names.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from importlib.metadata import Distribution, distributions
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ALL = ("langchain", "langgraph", "pytest>=8.4", "pytest-asyncio>=1.2")


def requirements(name: str) -> list[str]:
    """Return the packages of an environment, with their versions."""
    return (HERE / f"{name}.txt").read_text(encoding="utf-8").split()


def install(name: str) -> Path:
    """Create an environment, unless its file has not changed; return its Python."""
    folder = ROOT / f".venv-packages-{name}"
    python = folder / "bin" / "python"
    stamp = folder / ".installed"
    wanted = "\n".join((*ALL, *requirements(name)))
    if not (stamp.exists() and stamp.read_text(encoding="utf-8") == wanted):
        print(f"Installing {', '.join(requirements(name))} (a few minutes).", flush=True)
        venv.create(folder, with_pip=True)
        pip = [python, "-m", "pip", "install", "--quiet"]
        _run(*pip, "pip>=25.1")
        _run(*pip, "--editable", f"{ROOT}[testing]", *ALL, *requirements(name))
        stamp.write_text(wanted, encoding="utf-8")
    return python


def _run(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True)  # noqa: S603  # our own


def versions(python: Path, names: list[str]) -> dict[str, str]:
    """Return the installed versions of packages."""
    (folder,) = python.parents[1].glob("lib/python*/site-packages")
    found: list[Distribution] = list(distributions(path=[str(folder)]))
    return {d.name: d.version for d in found if d.name in names}


def main(names: list[str]) -> int:
    """Test the packages of these environments, by default of all; return an exit code."""
    names = names or sorted(file.stem for file in HERE.glob("*.txt"))
    failed = 0
    tested: dict[str, str] = {}
    for name in names:
        python = install(name)
        command = [
            *(python, "-m", "pytest", "-c", HERE / "pytest.ini"),
            *("--rootdir", ROOT, "--confcutdir", HERE, HERE / f"test_{name}.py"),
        ]
        done = subprocess.run(  # noqa: S603  # our own
            [str(part) for part in command], cwd=ROOT, check=False
        )
        failed += done.returncode != 0
        pins = [line.partition("==")[0].partition("[")[0] for line in requirements(name)]
        tested |= versions(python, pins)
    rows = "\n".join(f"  {package} {version}" for package, version in tested.items())
    outcome = f"{failed} of {len(names)} environments failed"
    print(f"{len(tested)} packages, {outcome}:\n{rows}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
