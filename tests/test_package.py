"""What importing the package does to its surroundings: nothing."""

import importlib.metadata
import subprocess
import sys
from importlib import resources

import pytest

PACKAGES = ("operators", "priors", "inverse")

# Every way to the network goes through a socket that connects or a name that is looked up.
PROGRAM = """
import random, socket
def refuse(*_, **__):
    raise SystemExit("the network was reached for")
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse

import numpy, torch
before = random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
settings = torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()
import operators, priors, inverse, inverse.command
assert before == (random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
import sys
assert not {"diffusers", "transformers"} & set(sys.modules), "heavy optional parts are imported where they are used"
assert settings == (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled())
"""


def test_importing_is_silent_offline_and_leaves_randomness_alone():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", PACKAGES)
def test_the_packages_are_typed(name):
    assert (resources.files(name) / "py.typed").is_file()


def test_the_demo_images_are_shipped_with_their_licence():
    folder = resources.files("inverse") / "demo_images"
    assert sum(file.name.endswith(".png") for file in folder.iterdir()) == 3
    assert "MIT License" in (folder / "SOURCE.md").read_text()


def test_the_command_is_installed():
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="inverse")
    from inverse.command import main

    assert entry.load() is main


def test_the_licence_is_in_the_metadata():
    assert importlib.metadata.metadata("scorefold")["License-Expression"] == "BSD-3-Clause"
