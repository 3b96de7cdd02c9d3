"""The command `inverse`."""

from inverse.command.main import main

__all__ = ["main"]
