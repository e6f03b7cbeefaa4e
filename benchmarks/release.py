"""`python -m benchmarks.release TOOLS`: whether the package that is built here can be released.

It builds the sdist and the wheel, checks them with twine, installs the wheel in fresh environments without and with its
extras, runs `mirst demo` in each from a folder outside the checkout, and compares the outcomes with those of the
checkout. TOOLS is a Python that has build and twine. Three demos take about nine minutes on two idle cores.
"""

import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[1]
ALONE = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
EXTRAS = {"alone": "", "with extras": "[app,dicom,fast,onnx,tensorboard,xlsx]"}
RESULTS = ("results", "results-lesion")
KEYS = ["defense", "drop_max", "fold", "seed", "source", "image", "attack", "eps", "label"]
RELATIVE = re.compile(r"\]\((?!https?:|#)[^)]*\)")


def main(tools: Path) -> int:
    with tempfile.TemporaryDirectory(prefix="mirst-release-") as temporary:
        folder = Path(temporary)
        wheel = built(tools, folder / "dist")
        demo(Path(sys.executable), folder / "checkout")
        faults = [f"the index page would have the relative link {link}" for link in RELATIVE.findall(page_of(wheel))]
        for number, (name, extras) in enumerate(EXTRAS.items()):
            python = environment(folder / f"venv{number}", f"{wheel}{extras}")
            demo(python, folder / f"demo{number}")
            exact = "fast" in extras  # without numba, drop-max and interval bounds round otherwise
            faults += [
                f"{name}: {fault}" for fault in differences(folder / "checkout", folder / f"demo{number}", exact)
            ]
    for fault in faults:
        print(fault)
    print(f"{wheel.name}: {'not ready' if faults else 'ready'}")
    return int(bool(faults))


def built(tools: Path, dist: Path) -> Path:
    """The wheel, built from the sdist, so that this is complete too."""
    subprocess.run([tools, "-m", "build", "--outdir", dist, ROOT], check=True)
    subprocess.run([tools, "-m", "twine", "check", "--strict", *dist.iterdir()], check=True)
    (wheel,) = dist.glob("*.whl")
    return wheel


def page_of(wheel: Path) -> str:
    """What an index shows of the package."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return archive.read(name).decode()


def environment(folder: Path, package: str) -> Path:
    """The Python of a fresh environment with `package` at the pinned versions."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt"]
    subprocess.run([*pip, package], check=True, env=ALONE)
    return python


def demo(python: Path, out: Path) -> None:
    out.mkdir()
    subprocess.run([python, "-m", "mirst.cli", "demo", "--out", out, "--quiet"], check=True, cwd=out, env=ALONE)


def differences(expected: Path, found: Path, exact: bool) -> list[str]:
    """How the outcomes of two demos differ; if not `exact`, only in which rows they have."""
    faults = []
    for results in RESULTS:
        one, other = (pd.read_csv(folder / results / "outcomes.csv") for folder in (expected, found))
        if not one[KEYS].equals(other[KEYS]):
            faults.append(f"{results}/outcomes.csv has other rows than that of the checkout")
        elif exact and not one.equals(other):
            faults.append(f"{results}/outcomes.csv has other numbers than that of the checkout")
        else:
            same = (one["prediction"] == other["prediction"]).mean()
            print(f"{found.name}: {results}/outcomes.csv, {len(one)} rows, {same:.1%} with the same prediction")
    return faults


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).absolute()))
