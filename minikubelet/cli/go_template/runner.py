"""Runs a template over an object (text/template's exec.go): what it prints, or where and why it can't go on.

It always ends: the number of its steps, the depth of templates in templates and the text that it makes are
limited.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from minikubelet.cli.go_template import nodes
from minikubelet.cli.go_template.functions import FUNCTIONS, STRING, VALUE, Function
from minikubelet.cli.go_template.nodes import Node, Pipeline
from minikubelet.cli.go_template.parser import MAIN
from minikubelet.cli.go_template.printing import text_of
from minikubelet.cli.go_template.quoting import quote
from minikubelet.cli.go_template.values import (
    ABSENT,
    MISSING,
    Fault,
    Held,
    Int,
    Pieces,
    as_argument,
    is_true,
    is_whole,
    loose,
    type_of,
)

MOST_STEPS = 5_000_000
"""Some ten seconds."""
MOST_DEPTH = 500
"""Of templates in templates."""


class Failure(Exception):
    """A template that can't go on; the message says where and why."""


class _Jump(Exception):
    """``break`` or ``continue``."""


class _Variables:
    """Those of one template; inner ones hide outer ones."""

    def __init__(self, value: Any) -> None:
        self._stack: list[tuple[str, Any]] = [("$", value)]

    def __len__(self) -> int:
        return len(self._stack)

    def forget(self, count: int) -> None:
        del self._stack[count:]

    def declare(self, name: str, value: Any) -> None:
        self._stack.append((name, value))

    def _find(self, name: str) -> int:
        at = next((at for at in reversed(range(len(self._stack))) if self._stack[at][0] == name), None)
        if at is None:
            raise Fault(f"undefined variable: {name}")
        return at

    def get(self, name: str) -> Any:
        return self._stack[self._find(name)][1]

    def assign(self, name: str, value: Any) -> None:
        self._stack[self._find(name)] = (name, value)


class Runner:
    """One run. ``text`` is what the templates were read from."""

    def __init__(self, text: str, templates: Mapping[str, nodes.Body], *, missing_is_fault: bool) -> None:
        self._text = text
        self._templates = templates
        self._missing_is_fault = missing_is_fault
        self._pieces = Pieces()
        self._steps = 0
        self._depth = 0
        self._name = MAIN
        self._node: Node | None = None
        """What is at work, for messages."""
        self._variables = _Variables(None)

    def run(self, value: Any) -> str:
        """What is printed. Raises Failure, CommandError."""
        self._variables = _Variables(value)
        try:
            self._body(value, self._templates[MAIN])
        except Fault as exc:
            raise Failure(f"template: {self._place()}{exc}") from None
        except RecursionError:
            raise Failure(f"template: {self._place()}nested too deeply") from None
        return self._pieces.text()

    def _place(self) -> str:
        if self._node is None:
            return f"{self._name}: "
        before = self._text[: self._node.at]
        column = len(before.rpartition("\n")[2].encode("utf-8", "surrogateescape"))
        line = before.count("\n") + 1
        return f"{MAIN}:{line}:{column}: executing {quote(self._name)} at <{self._node}>: "

    # --- what stands in a template -----------------------------------------------------------------------

    def _body(self, dot: Any, body: nodes.Body) -> None:
        for node in body.nodes:
            self._walk(dot, node)

    def _walk(self, dot: Any, node: Node) -> None:
        self._step()
        if isinstance(node, nodes.Text):
            self._pieces.add(node.text)
            return
        self._node = node
        if isinstance(node, nodes.Action):
            value = self._pipeline(dot, node.pipe)
            if not node.pipe.variables:
                self._pieces.add(_shown(value))
        elif isinstance(node, nodes.Branch):
            known = len(self._variables)
            (self._range if node.word == "range" else self._if_or_with)(dot, node)
            self._variables.forget(known)
        elif isinstance(node, nodes.Jump):
            raise _Jump(node.word)
        else:
            assert isinstance(node, nodes.Invocation)
            self._invoke(dot, node)

    def _step(self) -> None:
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise Fault(f"exceeded the maximum number of steps ({MOST_STEPS})")

    def _if_or_with(self, dot: Any, node: nodes.Branch) -> None:
        value = self._pipeline(dot, node.pipe)
        if is_true(value):
            self._body(value if node.word == "with" else dot, node.body)
        elif node.otherwise is not None:
            self._body(dot, node.otherwise)

    def _range(self, dot: Any, node: nodes.Branch) -> None:
        names = [each.name for each in node.pipe.variables]
        value = self._pipeline(dot, node.pipe)
        base = len(self._variables)
        empty = True
        for key, item in self._items(loose(value), len(names)):
            empty = False
            self._step()
            if not node.pipe.assigns:
                self._variables.forget(base - len(names))
            for name, each in zip(names, (key, item)[2 - len(names) :], strict=True):
                (self._variables.assign if node.pipe.assigns else self._variables.declare)(name, each)
            try:
                self._body(item, node.body)
            except _Jump as jump:
                if str(jump) == "break":
                    return
            finally:
                self._variables.forget(base)
        if empty and node.otherwise is not None:
            self._body(dot, node.otherwise)

    def _items(self, value: Any, names: int) -> Iterator[tuple[Any, Any]]:
        """Keys and values. Raises Fault for what has none."""
        if isinstance(value, dict):
            yield from ((key, Held(value[key])) for key in sorted(value))
        elif isinstance(value, list):
            yield from ((Int(index), Held(each)) for index, each in enumerate(value))
        elif is_whole(value):
            if names > 1:
                raise Fault(f"can't use {value} to iterate over more than one variable")
            yield from ((ABSENT, type(value)(each)) for each in range(value))
        elif value is not ABSENT:
            raise Fault(f"range can't iterate over {text_of(value)}")

    def _invoke(self, dot: Any, node: nodes.Invocation) -> None:
        body = self._templates.get(node.name)
        if body is None:
            raise Fault(f"template {quote(node.name)} not defined")
        if self._depth == MOST_DEPTH:
            raise Fault(f"exceeded maximum template depth ({MOST_DEPTH})")
        value = ABSENT if node.pipe is None else self._pipeline(dot, node.pipe)
        outer = self._name, self._variables
        self._depth += 1
        self._name, self._variables = node.name, _Variables(value)
        self._body(value, body)
        self._name, self._variables = outer
        self._depth -= 1

    # --- values ------------------------------------------------------------------------------------------

    def _pipeline(self, dot: Any, pipe: Pipeline) -> Any:
        self._node = pipe
        value: Any = MISSING
        for command in pipe.commands:
            value = loose(self._command(dot, command, value))
        for variable in pipe.variables:
            if pipe.assigns:
                self._variables.assign(variable.name, value)
            else:
                self._variables.declare(variable.name, value)
        return value

    def _command(self, dot: Any, command: nodes.Command, last: Any) -> Any:
        """``last`` is what the command before it gives: one argument more."""
        first, arguments = command.words[0], command.words[1:]
        if isinstance(first, nodes.Identifier):
            return self._function(dot, first, command, arguments, last)
        given = bool(arguments) or last is not MISSING
        if isinstance(first, nodes.Field | nodes.Chain) or (
            isinstance(first, nodes.Variable) and first.fields
        ):
            return self._chain(dot, first, given=given)
        if not isinstance(first, Pipeline):
            self._node = first
        if isinstance(first, nodes.Variable):
            self._variables.get(first.name)
        if given:
            raise Fault(f"can't give argument to non-function {first}")
        if isinstance(first, nodes.Nil):
            raise Fault("nil is not a command")
        return self._value(dot, first)

    def _value(self, dot: Any, node: Node) -> Any:
        """Of anything but nil."""
        if isinstance(node, Pipeline):
            return self._pipeline(dot, node)
        self._node = node
        if isinstance(node, nodes.Dot):
            return dot
        if isinstance(node, nodes.Bool):
            return node.value
        if isinstance(node, nodes.String):
            return node.text
        if isinstance(node, nodes.Numeral):
            return _constant(node)
        if isinstance(node, nodes.Identifier):
            return self._function(dot, node, node, [], MISSING)
        if isinstance(node, nodes.Variable) and not node.fields:
            return self._variables.get(node.name)
        return self._chain(dot, node, given=False)

    def _chain(self, dot: Any, node: Node, *, given: bool) -> Any:
        """``.a.b``, ``$x.a.b``, ``(…).a.b``; ``given``: whether arguments are, which no field takes."""
        self._node = node
        if isinstance(node, nodes.Field):
            value, names = dot, node.names
        elif isinstance(node, nodes.Variable):
            value, names = self._variables.get(node.name), node.fields
        else:
            assert isinstance(node, nodes.Chain)
            value, names = self._value(dot, node.node), node.names
        for at, name in enumerate(names):
            value = self._field(value, name, given=given and at == len(names) - 1)
        return value

    def _field(self, value: Any, name: str, *, given: bool) -> Any:
        if value is ABSENT:
            if self._missing_is_fault:
                raise Fault(f"nil data; no entry for key {quote(name)}")
            return ABSENT
        if value == Held(None):
            raise Fault(f"nil pointer evaluating interface {{}}.{name}")
        fields = loose(value)
        if not isinstance(fields, dict):
            raise Fault(f"can't evaluate field {name} in type {type_of(value)}")
        if given:
            raise Fault(f"{name} is not a method but has arguments")
        if name in fields:
            return Held(fields[name])
        if self._missing_is_fault:
            raise Fault(f"map has no entry for key {quote(name)}")
        return ABSENT

    # --- functions ---------------------------------------------------------------------------------------

    def _function(
        self, dot: Any, word: nodes.Identifier, call: Node, arguments: Sequence[Node], last: Any
    ) -> Any:
        self._node = word
        name, function = word.name, FUNCTIONS[word.name]
        count = len(arguments) + (last is not MISSING)
        fixed = len(function.fixed)
        if function.more and count < fixed:
            raise Fault(f"wrong number of args for {name}: want at least {fixed} got {len(arguments)}")
        if not function.more and count != fixed:
            raise Fault(f"wrong number of args for {name}: want {fixed} got {count}")
        if name in ("and", "or"):
            return self._first(dot, name, arguments, last)
        types = [*function.fixed, *[function.more] * count]
        given = [self._argument(dot, kind, node) for kind, node in zip(types, arguments, strict=False)]
        if last is not MISSING:
            given.append(_fitting(last, types[len(given)]))
        return self._called(name, function, call, given, str(arguments[0]) if arguments else _named(last))

    def _called(self, name: str, function: Function, call: Node, given: Sequence[Any], first: str) -> Any:
        try:
            return function.call(*given)
        except Fault as exc:
            self._node = call
            raise Fault(
                f"error calling {name}: {str(exc).replace('{}', first, 1) if name == 'call' else exc}"
            ) from None

    def _first(self, dot: Any, name: str, arguments: Sequence[Node], last: Any) -> Any:
        """What ``and`` and ``or`` come down to."""
        value = ABSENT
        for node in arguments:
            value = self._argument(dot, VALUE, node)
            if is_true(value) is (name == "or"):
                return value
        return value if last is MISSING else last

    def _argument(self, dot: Any, kind: str, node: Node) -> Any:
        if isinstance(node, nodes.Nil):
            self._node = node
            if kind == STRING:
                raise Fault(f"cannot assign nil to {kind}")
            return ABSENT if kind == VALUE else None
        if kind == STRING and isinstance(node, nodes.Bool | nodes.Numeral):
            self._node = node
            raise Fault(f"expected string; found {node}")
        return _fitting(self._value(dot, node), kind)


def _fitting(value: Any, kind: str) -> Any:
    """A value as an argument of this type. Raises Fault."""
    if kind == VALUE:
        return value
    if kind != STRING:
        return as_argument(value)
    if value is ABSENT:
        raise Fault(f"invalid value; expected {kind}")
    bare = value if value == Held(None) else loose(value)
    if not isinstance(bare, str):
        raise Fault(f"wrong type for value; expected {kind}; got {type_of(bare)}")
    return bare


def _constant(node: nodes.Numeral) -> Any:
    """A number by how it is written. Raises Fault."""
    number = node.number
    if number.imaginary is not None:
        return number.imaginary
    hexadecimal = node.text[:2] in ("0x", "0X") and not set(node.text) & set("pP")
    if (
        number.fraction is not None
        and node.text[0] != "'"
        and not hexadecimal
        and set(node.text) & set(".eEpP")
    ):
        return number.fraction
    if number.whole is None or number.whole >= 1 << 63:
        raise Fault(f"{node.text} overflows int")
    return Int(number.whole)


def _shown(value: Any) -> str:
    return "<no value>" if value is ABSENT else text_of(value)


def _named(value: Any) -> str:
    """What ``call`` calls a value out of a pipeline."""
    return (
        value
        if isinstance(value, str)
        else f"<{'invalid' if value in (ABSENT, MISSING) else type_of(value)} Value>"
    )
