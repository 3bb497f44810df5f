"""All benchmarks, one after the other: python -m tests.benchmarks"""

import subprocess
import sys

NAMES = ("training", "estimators", "replicas", "worker", "packs", "submit", "sweep")

for name in NAMES:
    print(f"\n# {name}\n", flush=True)
    subprocess.run([sys.executable, "-m", f"tests.benchmarks.bench_{name}"], check=True)
