#!/bin/sh
# ray 2.60.0: once a worker has died, the driver's print is another function until the process ends.
#
# Expected: log_to_driver=False keeps the output of workers away from the driver, and ray.shutdown() leaves the process
#   as ray.init() found it.
# Seen: the report of the death is printed on the driver's standard output all the same, and the code that prints it
#   sets up Ray's progress bars, which replace builtins.print by ray.experimental.tqdm_ray.safe_print. Neither
#   shutdown() nor the end of the cluster puts the builtin back.
# Why it matters: it happens at a moment that depends on the load of the machine, in a thread, and far from any call. A
#   test suite fails in a test that has nothing to do with Ray, and only on some days; a program whose standard output
#   is data finds a report of Ray in it. RAY_TQDM_PATCH_PRINT=0 keeps the builtin.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'ray==2.60.0'
cd "$folder"
cat >driver.py <<'PY'
import builtins
import logging
import os
import signal
import time

import ray

builtin = builtins.print
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)


@ray.remote
class Worker:
    def end(self):
        os.kill(os.getpid(), signal.SIGKILL)


try:
    ray.get(Worker.remote().end.remote())
except ray.exceptions.RayActorError:
    pass
deadline = time.monotonic() + 60
while builtins.print is builtin and time.monotonic() < deadline:
    time.sleep(0.1)
ray.shutdown()
builtin("print is", "the builtin" if builtins.print is builtin else f"{print.__module__}.{print.__name__}")
PY
RAY_USAGE_STATS_ENABLED=0 env/bin/python driver.py >printed 2>/dev/null
cat printed
tail -n 1 printed | grep -q "print is ray.experimental.tqdm_ray.safe_print"
RAY_TQDM_PATCH_PRINT=0 RAY_USAGE_STATS_ENABLED=0 env/bin/python driver.py 2>/dev/null | tail -n 1 | grep "print is the builtin"
