"""Peak memory of one full evaluation: 10,000 against 60,000 images.

Run ``python benchmarks/memory.py``. Each size runs in its own process, which watches
its resident memory during the evaluations; the data are counted out.
"""

import subprocess
import sys
import threading
import time

import common
import psutil

import keras_nlp_bridge as knb


def peak(samples: int) -> float:
    """MB above what the process held with the data loaded, in this process."""
    model = common.lenet()
    model.compile(loss=common.cross_entropy())
    problem = knb.KerasProblem(model, *common.random_digits(samples, flat=False))
    x0 = problem.x0
    process = psutil.Process()
    before = most = process.memory_info().rss
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.is_set():
            most = max(most, process.memory_info().rss)
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for i in range(3):
        problem.fun_and_jac(x0 * (1 + 1e-6 * i))
    done.set()
    watcher.join()
    return (most - before) / 2**20


def main() -> None:
    """Run both sizes and print the difference."""
    if len(sys.argv) > 1:
        print(peak(int(sys.argv[1])))
        return
    found = {}
    for samples in (10_000, 60_000):
        done = subprocess.run(
            [sys.executable, __file__, str(samples)],
            check=True,
            capture_output=True,
            text=True,
        )
        found[samples] = float(done.stdout.split()[-1])
    rows = [[f"{n:,} images", f"{mb:.0f} MB"] for n, mb in found.items()]
    difference = found[60_000] - found[10_000]
    met = "met" if abs(difference) <= 50 else "MISSED"
    rows.append(["difference", f"{difference:+.0f} MB (bar +-50, {met})"])
    common.report("memory", rows, ["one fun_and_jac of LeNet", "peak above the data"])


if __name__ == "__main__":
    main()
