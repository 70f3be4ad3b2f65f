"""What a template is made of. ``str()`` of a part is how messages show it; ``at`` is where they point to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from minikubelet.cli.go_template.quoting import Number, quote


@dataclass(eq=False)
class Node:
    """Any part."""

    at: int


@dataclass(eq=False)
class Text(Node):
    """Printed as it stands."""

    text: str


@dataclass(eq=False)
class Body(Node):
    """What stands up to an ``end`` or ``else``."""

    nodes: list[Node] = field(default_factory=list)

    def is_empty(self) -> bool:
        """Whether it holds nothing but spaces."""
        return all(isinstance(node, Text) and not node.text.strip() for node in self.nodes)


@dataclass(eq=False)
class Identifier(Node):
    """A function's name."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(eq=False)
class Dot(Node):
    """``.``"""

    def __str__(self) -> str:
        return "."


@dataclass(eq=False)
class Nil(Node):
    """``nil``"""

    def __str__(self) -> str:
        return "nil"


@dataclass(eq=False)
class Bool(Node):
    """``true``, ``false``"""

    value: bool

    def __str__(self) -> str:
        return "true" if self.value else "false"


@dataclass(eq=False)
class Numeral(Node):
    """A number, as typed and what it may be."""

    text: str
    number: Number

    def __str__(self) -> str:
        return self.text


@dataclass(eq=False)
class String(Node):
    """A string, as typed and what it means."""

    quoted: str
    text: str

    def __str__(self) -> str:
        return self.quoted


@dataclass(eq=False)
class Field(Node):
    """``.a.b``"""

    names: Sequence[str]

    def __str__(self) -> str:
        return "".join(f".{name}" for name in self.names)


@dataclass(eq=False)
class Variable(Node):
    """``$x``, ``$x.a.b``"""

    name: str
    fields: Sequence[str] = ()

    def __str__(self) -> str:
        return ".".join((self.name, *self.fields))


@dataclass(eq=False)
class Chain(Node):
    """``(PIPELINE).a.b``"""

    node: Node
    names: Sequence[str]

    def __str__(self) -> str:
        return ".".join((_in_brackets(self.node), *self.names))


@dataclass(eq=False)
class Command(Node):
    """A function with its arguments, or a value."""

    words: list[Node] = field(default_factory=list)

    def __str__(self) -> str:
        return " ".join(map(_in_brackets, self.words))


@dataclass(eq=False)
class Pipeline(Node):
    """``$x, $y := COMMAND | COMMAND``"""

    variables: list[Variable] = field(default_factory=list)
    assigns: bool = False
    """Whether the variables are there already: ``=``."""
    commands: list[Command] = field(default_factory=list)

    def __str__(self) -> str:
        commands = " | ".join(map(str, self.commands))
        if not self.variables:
            return commands
        return f"{', '.join(map(str, self.variables))} {'=' if self.assigns else ':='} {commands}"


def _in_brackets(node: Node) -> str:
    return f"({node})" if isinstance(node, Pipeline) else str(node)


@dataclass(eq=False)
class Action(Node):
    """``{{PIPELINE}}``"""

    pipe: Pipeline


@dataclass(eq=False)
class Branch(Node):
    """``if``, ``with`` and ``range`` with their bodies."""

    word: str
    pipe: Pipeline
    body: Body
    otherwise: Body | None


@dataclass(eq=False)
class Jump(Node):
    """``break``, ``continue``"""

    word: str


@dataclass(eq=False)
class Invocation(Node):
    """``{{template "name" PIPELINE}}``"""

    name: str
    pipe: Pipeline | None

    def __str__(self) -> str:
        argument = "" if self.pipe is None else f" {self.pipe}"
        return f"{{{{template {quote(self.name)}{argument}}}}}"


@dataclass(eq=False)
class End(Node):
    """``end`` or ``else``, which end a body."""

    word: str

    def __str__(self) -> str:
        return f"{{{{{self.word}}}}}"
