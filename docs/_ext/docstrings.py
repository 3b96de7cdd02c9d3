"""Docstrings of this package as reStructuredText.

They are plain text: paragraphs, `code` in single backticks, indented formulas, "- " lists, and "name: what it is" for
parameters, several on a line. Characters that mean something in reStructuredText stand for themselves.
"""

import inspect
import re
import textwrap
from importlib import import_module

MODULES = ("operators", "priors", "priors.manifolds", "inverse", "inverse.metrics", "inverse.robustness")
SENTENCES = re.compile(r"(?<=\.) (?=(?:Raises|Returns) )")


def setup(app):
    app.connect("autodoc-process-docstring", process)
    return {"parallel_read_safe": True}


def public(module):
    """Names that a module exports; without a list of them, its own functions and classes."""
    module = import_module(module)
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
    return list(getattr(module, "__all__", [name for name in own if not name.startswith("_")]))


def process(app, what, name, obj, options, lines):
    paragraphs = re.split(r"\n\s*\n", "\n".join(lines).strip("\n"))
    names = parameters(obj)
    lines[:] = [line for paragraph in paragraphs for line in [*converted(paragraph, names, name), ""]]


def parameters(obj):
    """What "name:" at the start of a sentence may explain: arguments, and the fields of a class."""
    try:
        names = set(inspect.signature(obj).parameters)
    except (TypeError, ValueError):
        names = set()
    for parent in inspect.getmro(obj) if inspect.isclass(obj) else ():
        names |= set(vars(parent).get("__annotations__", {}))
    return names - {"self"}


def converted(paragraph, names, where):
    if paragraph.startswith("    "):
        return ["::", "", *textwrap.indent(textwrap.dedent(paragraph), "    ").splitlines()]
    lines = []
    for indent, item in items(paragraph):
        for text in parts(item, names):
            bullet, text = ("- ", text[2:]) if text.startswith("- ") else ("", text)
            head = re.match(rf"({one_of(names)}(?:, {one_of(names)})*): ", text) if names else None
            if head:
                bullet, text = "- ", text[head.end() :]
            shown = (f"**{escaped(head[1])}**: " if head else "") + inline(text, where)
            lines += ["  " * indent + bullet + shown, ""]
    return lines


def items(paragraph):
    """Lines joined to items: one for each "- " or deeper "name: ", with its depth."""
    found = []
    for line in paragraph.splitlines():
        depth = 1 if line.startswith("    ") else 0
        text = line.strip()
        starts = text.startswith("- ") or (depth and re.match(r"\w+(, \w+)*: ", text))
        if not found or starts or depth < found[-1][0]:
            found.append([depth, "- " + text if depth and not text.startswith("- ") else text])
        else:
            found[-1][1] += " " + text
    return found


def parts(text, names):
    """A text cut where another parameter, what is raised or what is returned begins."""
    if names:
        heads = rf"(?:^|(?<=[.,;] )){one_of(names)}(?:, {one_of(names)})*: "
        text = re.sub(heads, lambda head: "\0" + head[0], text)
    return [part.strip(" ,;") for half in SENTENCES.split(text) for part in half.split("\0") if part.strip()]


def one_of(names):
    return "(?:" + "|".join(sorted(map(re.escape, names), key=len, reverse=True)) + ")"


def inline(text, where):
    pieces = re.split(r"`([^`]+)`", text)
    shown = escaped(pieces[0])
    for literal, after in zip(pieces[1::2], pieces[2::2], strict=True):
        # Markup must stand apart from words; "\\ " parts them, and is not shown.
        before = "\\ " if re.search(r"\w$", shown) else ""
        shown += before + code(literal, where) + ("\\ " if re.match(r"\w", after) else "") + escaped(after)
    return shown


def escaped(text):
    text = re.sub(r"([\\*|`])", r"\\\1", text.replace("...", "…"))
    text = re.sub(r"_(?!\w)", r"\\_", text)
    # The tables show a first sentence, which does not end here.
    text = re.sub(r"\b(App|Eqs?|Sec|Fig)\. ", "\\1.\\\\ \N{NO-BREAK SPACE}", text)
    return re.sub(r"^(?=(?:\(?[0-9A-Za-z]+[.)]|[-+*=~]+) )", r"\\", text)


def code(text, where):
    target = target_of(text, where)
    return f":py:obj:`{text} <{target}>`" if target else f"``{text}``"


def target_of(text, where):
    """The public object of that name, one of the same package first."""
    if not re.fullmatch(r"[\w.]+", text):
        return None
    known = [f"{module}.{name}" for module in MODULES for name in public(module)]
    found = [full for full in known if full == text or full.endswith(f".{text}")]
    found.sort(key=lambda full: full.split(".")[0] != where.split(".")[0])
    return found[0] if found and found[0] != where and found[0] not in MODULES else None
