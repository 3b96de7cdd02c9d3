"""What the README shows works as it is written there."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import inverse
import operators
from inverse.command.main import parser

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    (program,) = [code for language, code in BLOCKS if language == "python"]
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "README.md", "exec"), {})
    assert "Samples(n=8, measurements=1, image_shape=(1, 28, 28), sampler='mmps'" in capsys.readouterr().out
    samples = inverse.Samples.load("blur.safetensors")
    # the noise is found again in the residual: chi-square of 784 degrees, its root spreads by 2.5%: four of them
    physics = operators.create("gaussian-blur", (1, 28, 28), width=2.0, noise=0.05)
    assert inverse.metrics.residual_ratio(samples.x, samples.y, physics).mean().item() == pytest.approx(1, abs=0.1)
    assert (tmp_path / "blur.png").exists()


def test_the_commands_parse(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("A.npy", np.eye(3))
    lines = [line for language, code in BLOCKS if language == "sh" for line in code.splitlines()]
    commands = [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("inverse ")]
    assert len(commands) == 10
    for command in commands:
        assert parser().parse_args(command).run


def test_one_line_runs_the_tests():
    """`.ci/run` takes it from here."""
    assert len(re.findall(r"^python3 -m venv .*pytest$", README, re.MULTILINE)) == 1


@pytest.mark.parametrize("names", [operators.available(), inverse.samplers()])
def test_the_tables_name_everything(names):
    for name in names:
        assert f"`{name}`" in README
