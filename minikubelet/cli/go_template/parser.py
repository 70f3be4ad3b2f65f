"""The grammar of Go's templates (text/template/parse), with its words for what is wrong."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from minikubelet.cli.go_template import nodes, quoting
from minikubelet.cli.go_template.lexer import SyntaxFault, Token, lex
from minikubelet.cli.go_template.nodes import Body, Command, End, Node, Pipeline, Variable

MAIN = "output"
"""What kubectl calls the template that is not defined in another."""
_OPERANDS = ("bool", "char", "complex", "dot", "field", "identifier", "number", "string", "variable", "(")
_LITERALS = (nodes.Bool, nodes.Dot, nodes.Nil, nodes.Numeral, nodes.String)
_MOST_BRACKETS = 500
"""Inside one another."""


def parse(text: str, functions: Collection[str]) -> dict[str, Body]:
    """The templates by name, among them :data:`MAIN`. Raises SyntaxFault."""
    found: dict[str, Body] = {}
    words = _Words(text)
    try:
        _Parser(words, functions, found).main()
    except RecursionError:
        raise words.fault("nested too deeply") from None
    return found


class _Words:
    """The words, with the ability to go back."""

    def __init__(self, text: str) -> None:
        self._coming = lex(text)
        self._seen: list[Token] = []
        self.at = 0
        self.action_line = 0
        """Where the action begins that is being read; 0 outside of one."""

    def fault(self, message: str) -> SyntaxFault:
        """With the line that has been come to."""
        line = self._seen[-1].line if self._seen else 1
        return SyntaxFault(f"template: {MAIN}:{line}: {message}")

    def next(self) -> Token:
        """The next word."""
        if self.at == len(self._seen):
            self._seen.append(
                next(self._coming, self._seen[-1] if self._seen else Token("end of file", "", 0, 1))
            )
        self.at += 1
        return self._seen[self.at - 1]

    def next_word(self) -> Token:
        """The next that isn't a space."""
        while (token := self.next()).kind == "space":
            pass
        return token

    def peek(self) -> Token:
        """What :meth:`next` will give."""
        token = self.next()
        self.at -= 1
        return token

    def peek_word(self) -> Token:
        """What :meth:`next_word` will give; spaces are gone past."""
        token = self.next_word()
        self.at -= 1
        return token

    def unexpected(self, token: Token, where: str) -> SyntaxFault:
        """For a word that may not stand here."""
        if token.kind != "error":
            return self.fault(f"unexpected {token} in {where}")
        more = ""
        if self.action_line not in (0, token.line):
            more = f" in action started at {MAIN}:{self.action_line}"
            if token.text.endswith(" action"):
                more = more.removeprefix(" in action")
        return self.fault(f"{token}{more}")

    def expect(self, kind: str, where: str) -> Token:
        """The next word, which must be one of this kind."""
        token = self.next_word()
        if token.kind != kind:
            raise self.unexpected(token, where)
        return token


class _Parser:
    """Reads one template: the main one, or one that is defined inside it."""

    def __init__(self, words: _Words, functions: Collection[str], found: dict[str, Body]) -> None:
        self._words = words
        self._functions = functions
        self._found = found
        self._variables = ["$"]
        self._ranges = self._brackets = 0

    def main(self) -> None:
        words, body = self._words, Body(0)
        while (token := words.peek()).kind != "end of file":
            if token.kind == "left":
                start = words.at
                words.next()
                if _is_keyword(words.next_word(), "define"):
                    self._definition()
                    continue
                words.at = start
            node = self._text_or_action()
            if isinstance(node, End):
                raise words.fault(f"unexpected {node}")
            body.nodes.append(node)
        self._add(MAIN, body)

    def _add(self, name: str, body: Body) -> None:
        known = self._found.get(name)
        if known is None or known.is_empty():
            self._found[name] = body
        elif not body.is_empty():
            raise self._words.fault(f"template: multiple definition of template {quoting.quote(name)}")

    def _definition(self) -> None:
        where = "define clause"
        name = self._unquoted(self._words.expect("string", where))
        self._words.expect("right", where)
        self._inner(name, where)

    def _inner(self, name: str, where: str) -> None:
        inner = _Parser(self._words, self._functions, self._found)
        body, end = inner._body()
        if end.word != "end":
            raise self._words.fault(f"unexpected {end} in {where}")
        self._add(name, body)

    def _body(self) -> tuple[Body, End]:
        body = Body(self._words.peek_word().at)
        while self._words.peek_word().kind != "end of file":
            node = self._text_or_action()
            if isinstance(node, End):
                return body, node
            body.nodes.append(node)
        raise self._words.fault("unexpected EOF")

    def _text_or_action(self) -> Node:
        token = self._words.next_word()
        if token.kind == "text":
            return nodes.Text(token.at, token.text)
        if token.kind != "left":
            raise self._words.unexpected(token, "input")
        self._words.action_line = token.line
        node = self._action()
        self._words.action_line = 0
        return node

    def _action(self) -> Node:
        token = self._words.next_word()
        if token.kind == "keyword":
            if token.text in ("if", "range", "with"):
                return self._branch(token.text)
            if token.text in ("break", "continue"):
                return self._jump(token)
            if token.text in ("template", "block"):
                return self._invocation(token.text)
            if token.text == "else":
                return self._else()
            if token.text == "end":
                return End(self._words.expect("right", "end").at, "end")
        self._words.at -= 1
        return nodes.Action(token.at, self._pipeline("command"))

    def _branch(self, word: str) -> Node:
        known = len(self._variables)
        pipe = self._pipeline(word)
        self._ranges += word == "range"
        body, end = self._body()
        self._ranges -= word == "range"
        otherwise = self._otherwise(word, end) if end.word == "else" else None
        del self._variables[known:]
        return nodes.Branch(pipe.at, word, pipe, body, otherwise)

    def _otherwise(self, word: str, end: End) -> Body:
        """What follows ``else``; of ``else if`` and ``else with`` the same ``end`` ends both."""
        if word in ("if", "with") and _is_keyword(self._words.peek(), word):
            self._words.next()
            return Body(end.at, [self._branch(word)])
        body, end = self._body()
        if end.word != "end":
            raise self._words.fault(f"expected end; found {end}")
        return body

    def _else(self) -> Node:
        token = self._words.peek_word()
        if not _is_keyword(token, "if", "with"):
            self._words.expect("right", "else")
        return End(token.at, "else")

    def _jump(self, token: Token) -> Node:
        shown = f"{{{{{token.text}}}}}"
        if (end := self._words.next_word()).kind != "right":
            raise self._words.unexpected(end, shown)
        if not self._ranges:
            raise self._words.fault(f"{shown} outside {{{{range}}}}")
        return nodes.Jump(token.at, token.text)

    def _invocation(self, word: str) -> Node:
        where = f"{word} clause"
        token = self._words.next_word()
        if token.kind != "string":
            raise self._words.unexpected(token, where)
        name = self._unquoted(token)
        pipe = None
        if word == "block" or self._words.peek_word().kind != "right":
            pipe = self._pipeline(where)
        else:
            self._words.next_word()
        if word == "block":
            self._inner(name, where)
        return nodes.Invocation(token.at, name, pipe)

    def _pipeline(self, where: str, end: str = "right") -> Pipeline:
        pipe = Pipeline(self._words.peek_word().at)
        self._declarations(pipe, where)
        while (token := self._words.next_word()).kind != end:
            if token.kind not in _OPERANDS and not _is_keyword(token, "nil"):
                raise self._words.unexpected(token, where)
            self._words.at -= 1
            pipe.commands.append(self._command())
        if not pipe.commands:
            raise self._words.fault(f"missing value for {where}")
        for stage, command in enumerate(pipe.commands[1:], 2):
            if isinstance(command.words[0], _LITERALS):
                raise self._words.fault(f"non executable command in pipeline stage {stage}")
        return pipe

    def _declarations(self, pipe: Pipeline, where: str) -> None:
        """``$x :=``, ``$x =``; of ``range`` also ``$x, $y :=``."""
        words = self._words
        while words.peek_word().kind == "variable":
            start = words.at
            token = words.next()
            following = words.next_word()
            comma = following.kind == "other" and following.text == ","
            if not comma and following.kind not in ("=", ":="):
                words.at = start
                return
            pipe.variables.append(Variable(token.at, token.text))
            self._variables.append(token.text)
            if not comma:
                pipe.assigns = following.kind == "="
                return
            if where != "range" or len(pipe.variables) > 1:
                raise words.fault(f"too many declarations in {where}")
            if words.peek_word().kind not in ("variable", "right", ")"):
                raise words.fault("range can only initialize variables")

    def _command(self) -> Command:
        command = Command(self._words.peek_word().at)
        while True:
            self._words.peek_word()
            if (operand := self._operand()) is not None:
                command.words.append(operand)
            token = self._words.next()
            if token.kind == "space":
                continue
            if token.kind in ("right", ")"):
                self._words.at -= 1
            elif token.kind != "|":
                raise self._words.unexpected(token, "operand")
            break
        if not command.words:
            raise self._words.fault("empty command")
        return command

    def _operand(self) -> Node | None:
        node = self._term()
        if node is None or self._words.peek().kind != "field":
            return node
        at, names = self._words.peek().at, list(self._fields())
        if isinstance(node, nodes.Field):
            return nodes.Field(at, [*node.names, *names])
        if isinstance(node, Variable):
            return Variable(at, node.name, names)
        if isinstance(node, _LITERALS):
            raise self._words.fault(f"unexpected . after term {quoting.quote(str(node))}")
        return nodes.Chain(at, node, names)

    def _fields(self) -> Iterator[str]:
        while self._words.peek().kind == "field":
            yield self._words.next().text[1:]

    def _term(self) -> Node | None:
        token = self._words.next_word()
        kind, text, at = token.kind, token.text, token.at
        if kind == "identifier":
            if text not in self._functions:
                raise self._words.fault(f"function {quoting.quote(text)} not defined")
            return nodes.Identifier(at, text)
        if kind == "dot":
            return nodes.Dot(at)
        if kind == "field":
            return nodes.Field(at, [text[1:]])
        if kind == "variable":
            if text not in self._variables:
                raise self._words.fault(f"undefined variable {quoting.quote(text)}")
            return Variable(at, text)
        if kind == "bool":
            return nodes.Bool(at, text == "true")
        if kind in ("char", "number", "complex"):
            return self._numeral(token)
        if kind == "string":
            return nodes.String(at, text, self._unquoted(token))
        if kind == "(":
            return self._bracketed()
        if _is_keyword(token, "nil"):
            return nodes.Nil(at)
        self._words.at -= 1
        return None

    def _bracketed(self) -> Node:
        self._brackets += 1
        if self._brackets > _MOST_BRACKETS:
            raise self._words.fault("max expression depth exceeded")
        pipe = self._pipeline("parenthesized pipeline", ")")
        self._brackets -= 1
        return pipe

    def _numeral(self, token: Token) -> Node:
        try:
            if token.kind == "char":
                code = quoting.unquote_char(token.text)
                return nodes.Numeral(token.at, token.text, quoting.Number(code, float(code)))
            return nodes.Numeral(token.at, token.text, quoting.number(token.text))
        except ValueError as exc:
            raise self._words.fault(str(exc)) from None

    def _unquoted(self, token: Token) -> str:
        try:
            return quoting.unquote(token.text)
        except ValueError as exc:
            raise self._words.fault(str(exc)) from None


def _is_keyword(token: Token, *words: str) -> bool:
    return token.kind == "keyword" and token.text in words
