"""What may come next on the command line: worked out from the parsers, and from the daemon's pods.

The scripts that shells load ask ``minikubelet __complete WORD…`` for every Tab. The answer has one candidate
a line (a tab and a description may follow), then ``:files`` where file names are welcome, else ``:words``.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
from collections.abc import Sequence
from typing import Any

from minikubelet.cli import object_rows, options
from minikubelet.cli.api_client import ApiClient, Json
from minikubelet.cli.main import GROUPS
from minikubelet.cli.options import CommandError

Candidate = tuple[str, str]

_KINDS = ("pods", "pod")
_OBJECTS = tuple(kind.words[0] for kind in object_rows.KINDS)
_KINDS_OF = {
    "get": (*_KINDS, "nodes", "events", *_OBJECTS),
    "describe": (*_KINDS, "nodes", *_OBJECTS),
    "delete": (*_KINDS, *_OBJECTS),
    "wait": (*_KINDS, "nodes", *_OBJECTS),
}
_GOALS = ("condition=Ready", "condition=", "jsonpath=", "create", "delete")
"""What ``wait --for`` takes, to be gone on with."""
_SECRETS = ("docker-registry", "generic", "tls")
_POD_LAST = {"get", "describe", "explain", "delete", "wait"}
"""Commands whose first word is a kind and whose others are names."""
_POD_FIRST = {"logs", "exec", "attach", "debug", "port-forward"}
_FILES = {"run", "lint"}
_FILE_OPTIONS = {
    "from_file",
    "from_env_file",
    "cert",
    "key",
    "custom",
    "filename",
    "config",
    "manifests",
    "load",
    "root",
    "run",
    "certs_dir",
    "template",
}


def complete(words: Sequence[str]) -> tuple[list[Candidate], bool]:
    """Candidates for the last of ``words`` (which may be empty), and whether files fit too. Never raises."""
    before, current = list(words[:-1]), words[-1] if words else ""
    at, command = _command(before)
    if command is None:
        names = [(name, text) for commands in GROUPS.values() for name, text in commands.items()]
        return _fitting([*names, ("--run", ""), ("--listen", "")], current), False
    if command not in {name for commands in GROUPS.values() for name in commands}:
        return [], True
    if "--" in before[at:]:
        return [], True
    module = importlib.import_module(f"minikubelet.cli.commands.{command.replace('-', '_')}")
    parser = module.parser()
    return _Line(command, parser, before[:at], before[at + 1 :]).complete(current)


def _command(before: list[str]) -> tuple[int, str | None]:
    at = 0
    while at < len(before) and before[at].startswith("-"):
        at += 1 if "=" in before[at] else 2
    return (at, before[at]) if at < len(before) else (at, None)


def _fitting(candidates: Sequence[Candidate], current: str) -> list[Candidate]:
    return [(word, text) for word, text in candidates if word.startswith(current)]


class _Line:
    """The words after a command, sorted into options, their values, and the rest."""

    def __init__(
        self, command: str, parser: argparse.ArgumentParser, globals_: list[str], words: list[str]
    ) -> None:
        self._command = command
        self._parser = parser
        self._values: dict[str, str] = {}
        self._positional: list[str] = []
        self._pending: argparse.Action | None = None
        """The option whose value comes next."""
        for word in [*globals_, *words]:
            self._take(word)

    def _take(self, word: str) -> None:
        if self._pending is not None:
            self._values[self._pending.dest] = word
            self._pending = None
            return
        if not word.startswith("-") or word == "-":
            self._positional.append(word)
            self._enter(word)
            return
        name, equals, value = word.partition("=")
        action = self._options().get(name)
        if action is not None and action.nargs != 0:
            if equals:
                self._values[action.dest] = value
            else:
                self._pending = action

    def _enter(self, word: str) -> None:
        """Go on with the parser of a verb, as in ``image pull``."""
        for action in self._parser._actions:
            if isinstance(action, argparse._SubParsersAction) and word in action.choices:
                self._parser = action.choices[word]
                self._positional = []

    def _options(self) -> dict[str, argparse.Action]:
        return {name: action for action in self._parser._actions for name in action.option_strings}

    def complete(self, current: str) -> tuple[list[Candidate], bool]:
        """See :func:`complete`."""
        if self._pending is not None:
            return self._value(self._pending, current)
        if current.startswith("-"):
            name, equals, value = current.partition("=")
            if equals and (action := self._options().get(name)):
                found, files = self._value(action, value)
                return [(f"{name}={word}", text) for word, text in found], files
            shown = {
                word: action.help or ""
                for word, action in self._options().items()
                if action.help is not argparse.SUPPRESS and (len(word) > 2 or current == "-")
            }
            return _fitting(sorted(shown.items()), current), False
        return self._word(current)

    def _value(self, action: argparse.Action, current: str) -> tuple[list[Candidate], bool]:
        if action.choices:
            return _fitting([(str(each), "") for each in action.choices], current), False
        if action.dest == "namespace":
            names = {pod["metadata"].get("namespace", "") for pod in self._pods()}
            return _fitting([(name, "") for name in sorted(names)], current), False
        if action.dest == "target" or (action.dest == "container" and self._command != "debug"):
            return _fitting([(name, "") for name in self._containers()], current), False
        if action.dest == "goals":
            return _fitting([(word, "") for word in _GOALS], current), False
        if action.dest == "about":
            return _fitting([(f"pod/{name}", "") for name in self._names()], current), False
        return [], action.dest in _FILE_OPTIONS

    def _word(self, current: str) -> tuple[list[Candidate], bool]:
        for action in self._parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                verbs = [(each.dest, each.help or "") for each in action._choices_actions]
                return _fitting(verbs, current), False
        kind, slash, _ = current.partition("/")
        if slash and (self._command in _POD_LAST or (self._command in _POD_FIRST and not self._positional)):
            return _fitting([(f"{kind}/{name}", "") for name in self._of_kind(kind)], current), False
        if self._command in _POD_LAST:
            if not self._positional:
                return _fitting([(each, "") for each in _KINDS_OF.get(self._command, _KINDS)], current), False
            return _fitting([(name, "") for name in self._of_kind(self._positional[0])], current), False
        if self._command in _POD_FIRST and not self._positional:
            return _fitting([(name, "") for name in self._names()], current), False
        if self._command == "cp":
            return _fitting([(f"{name}:", "") for name in self._names()], current), True
        if self._command == "completion" and not self._positional:
            return _fitting([(shell, "") for shell in SHELLS], current), False
        if self._command == "create":
            first = self._positional[:1] == ["secret"]
            offered = _SECRETS if first else () if self._positional else ("configmap", "secret")
            return _fitting([(word, "") for word in offered if len(self._positional) < 2], current), False
        if self._command == "top" and not self._positional:
            return _fitting([("pods", ""), ("node", "")], current), False
        return [], self._command in _FILES or self._command == "image"

    def _pods(self) -> list[Json]:
        """All pods; none if no daemon answers: Tab is no time for errors."""
        with contextlib.suppress(CommandError, OSError, ValueError):
            return self._client().pods()
        return []

    def _client(self) -> ApiClient:
        defaults = options.Parser("", "", "")
        options.add_sockets(defaults)
        known = defaults.parse_args([])
        known.run = self._values.get("run", known.run)
        return ApiClient(options.kubelet_socket(known))

    def _of_kind(self, word: str) -> list[str]:
        """Names of pods, or of what pods refer to."""
        if word.lower() in _KINDS or word.lower() == "po":
            return self._names()
        kind, found = object_rows.find_kind(word), []
        if kind is not None:
            with contextlib.suppress(CommandError, OSError, ValueError):
                every = object_rows.objects(self._client(), [kind])
                found = [each for each in every if each["kind"] == kind.name]
        here = self._values.get("namespace", "default")
        return sorted(
            each["metadata"]["name"]
            for each in found
            if kind is not None and (not kind.namespaced or each["metadata"].get("namespace") == here)
        )

    def _names(self) -> list[str]:
        namespace = self._values.get("namespace", "default")
        pods = [pod for pod in self._pods() if pod["metadata"].get("namespace") == namespace]
        return sorted(pod["metadata"]["name"] for pod in pods)

    def _containers(self) -> list[str]:
        wanted = next(iter(self._positional), "").removeprefix("pod/")
        kinds = ("containers", "initContainers", "ephemeralContainers")
        for pod in self._pods():
            if pod["metadata"]["name"] in (wanted, f"{wanted}-{pod['spec'].get('nodeName', '').lower()}"):
                spec: dict[str, Any] = pod["spec"]
                return [each["name"] for kind in kinds for each in spec.get(kind, [])]
        return []


_BASH = """\
# Completion of minikubelet for bash. Load it with: source <(minikubelet completion bash)
_minikubelet() {
    local IFS=$'\\n' line lines kind=''
    COMPREPLY=()
    lines=$("${COMP_WORDS[0]}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null) || return
    for line in $lines; do
        case $line in
        :*) kind=${line#:} ;;
        *) COMPREPLY+=("${line%%$'\\t'*}") ;;
        esac
    done
    [ "$kind" = files ] || compopt +o default 2>/dev/null
    [[ ${#COMPREPLY[@]} -ne 1 || ${COMPREPLY[0]} != *[:=] ]] || compopt -o nospace 2>/dev/null
}
complete -o default -F _minikubelet minikubelet
"""

_ZSH = """\
#compdef minikubelet
# Completion of minikubelet for zsh. Load it with: source <(minikubelet completion zsh)
_minikubelet() {
    local line kind='' tab=$'\\t'
    local -a lines found
    lines=("${(@f)$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    for line in "${lines[@]}"; do
        case $line in
        :*) kind=${line#:} ;;
        *$tab*) found+=("${${line%%$tab*}//:/\\\\:}:${line#*$tab}") ;;
        ?*) found+=("${line//:/\\\\:}") ;;
        esac
    done
    [ ${#found} -eq 0 ] || _describe minikubelet found
    [ "$kind" != files ] || _files
}
(( $+functions[compdef] )) && compdef _minikubelet minikubelet
"""

_FISH = """\
# Completion of minikubelet for fish. Load it with: minikubelet completion fish | source
function __minikubelet_complete
    set -l words (commandline -opc)
    set -l lines ($words[1] __complete $words[2..-1] (commandline -ct) 2>/dev/null)
    for line in $lines
        if test "$line" = :files
            __fish_complete_path (commandline -ct)
        else if not string match -q ':*' -- $line
            echo $line
        end
    end
end
complete -c minikubelet -f -a '(__minikubelet_complete)'
"""

SHELLS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
