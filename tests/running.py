"""Scripts of the tests as several processes."""

import os
import socket
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parent


def start(script, count, *given, last=None):
    """Start so many processes: `given` may hold what is different for each.

    The last one has variables of its own in its environment.
    """
    own = [{}] * (count - 1) + [last or {}]
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    return [
        subprocess.Popen(
            [
                *(sys.executable, SCRIPTS / script, str(rank), str(count), str(port)),
                *(one[rank] if isinstance(one, list) else one for one in given),
            ],
            env={**os.environ, "OMP_NUM_THREADS": "1", **own[rank]},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(count)
    ]


def ended(processes, timeout=400):
    """Return what each has printed; none is left behind."""
    try:
        return [process.communicate(timeout=timeout)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def finished(script, count, *given, last=None):
    """Run so many processes to a good end."""
    processes = start(script, count, *given, last=last)
    for process, text in zip(processes, ended(processes), strict=True):
        assert process.returncode == 0, text[-3000:]
