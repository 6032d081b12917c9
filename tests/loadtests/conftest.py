"""The benchmarks are programs, not a package: their folder is their import path."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "loadtests"))
