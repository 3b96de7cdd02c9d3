from __future__ import annotations

import subprocess
import sys

CODE = """
import random, socket
import numpy as np, torch

def refuse(*args, **kwargs):
    raise AssertionError("the network was reached for")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
states = random.getstate(), np.random.get_state()[1].copy(), torch.random.get_rng_state()
import operators
operators.create("blur", (1, 8, 8), noise=0.1)
operators.sqnorm(operators.create("saturation", (4,)), (4,))
assert random.getstate() == states[0]
assert (np.random.get_state()[1] == states[1]).all()
assert torch.equal(torch.random.get_rng_state(), states[2])
"""


def test_import_and_use_are_silent_offline_and_leave_random_states_alone() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
