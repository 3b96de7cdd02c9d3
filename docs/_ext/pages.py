"""Pages written anew at every build: the help of the command line, and the cards that lie beside shipped weights."""

import argparse
import os
import re
import textwrap
from pathlib import Path

from inverse.command.main import parser

CARD = re.compile(r"\.\./priors/weights/([\w-]+\.md)")


def setup(app):
    app.connect("builder-inited", write)
    app.connect("source-read", link_cards)
    return {"parallel_read_safe": True}


def write(app):
    docs = Path(app.srcdir)
    for folder in ("api/generated", "models"):
        (docs / folder).mkdir(parents=True, exist_ok=True)
    (docs / "api/generated/command.rst").write_text(command_line())
    for card in (docs.parent / "priors" / "weights").glob("*.md"):
        include = f"```{{include}} ../../priors/weights/{card.name}\n:relative-images:\n```\n"
        (docs / "models" / card.name).write_text(include)


def link_cards(app, docname, source):
    """A card is a page here."""
    source[0] = source[0] if docname.startswith("models/") else CARD.sub(r"models/\1", source[0])


def command_line():
    os.environ["COLUMNS"] = "92"  # the width that argparse wraps at
    top = parser()
    (parts,) = (action.choices for action in top._actions if isinstance(action, argparse._SubParsersAction))
    sections = [section("The command line", "=", top)]
    return "\n".join(sections + [section(f"inverse {name}", "-", part) for name, part in parts.items()])


def section(title, rule, part):
    return f"{title}\n{rule * len(title)}\n\n.. code-block:: text\n\n{textwrap.indent(part.format_help(), '    ')}\n"
