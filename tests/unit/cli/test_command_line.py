"""Words typed, words printed, exit codes."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from minikubelet.base.config import DaemonConfig
from minikubelet.base.errors import NodeError
from minikubelet.cli import options, selectors
from minikubelet.cli.commands import daemon, exec, get, image, kubelet, logs
from minikubelet.cli.exec_session import exit_code
from minikubelet.cli.main import GROUPS, main
from minikubelet.cli.options import CommandError

COMMANDS = sorted(name for commands in GROUPS.values() for name in commands)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MINIKUBELET_RUN", "CONTAINER_RUNTIME_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(daemon, "CONFIG", str(tmp_path / "no-config.yaml"))


def test_help_names_every_command_in_its_group(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--help"], ["-h"], ["help"]):
        assert main(words) == 0
        shown = capsys.readouterr().out
        for title, commands in GROUPS.items():
            assert f"\n{title}:\n" in shown
            assert all(f"\n  {name} " in shown for name in commands)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_usage(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Usage:\n  minikubelet {command} " in shown
    assert shown.index("Options:") < shown.index("Usage:")
    assert main(["help", command]) == 0
    assert capsys.readouterr().out == shown


def test_importing_the_entry_point_is_cheap() -> None:
    code = "import sys, minikubelet.cli.main; print(sorted(m for m in sys.modules if not m.startswith('_')))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for heavy in ("asyncio", "grpc", "aiohttp", "yaml", "argparse", "msgspec"):
        assert f"'{heavy}'" not in loaded


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["frob"], 'unknown command "frob"'),
        (["gett", "pods"], 'did you mean "get"?'),
        (["get"], "the following arguments are required: KIND\n"),
        (["get", "services"], 'unknown kind "services"'),
        (["get", "pods", "-o", "xml"], 'suitable for the output format "xml"'),
        (["get", "pods", "a", "-A"], "a pod can't be named together with --all-namespaces"),
        (["get", "pods/"], "a name is missing after the slash"),
        (["get", "cm/a", "pod/"], "a name is missing after the slash"),
        (["get", "pods", "--sort-by", "[x"], "unterminated array"),
        (["get", "pods", "--field-selector", "spec.x=1"], "field label not supported: spec.x"),
        (["get", "cm", "--field-selector", "status.phase=a"], "field label not supported: status.phase"),
        (["get", "secrets", "-l", "a=b=c"], "unable to parse label selector"),
        (["describe", "pod", "a", "-A"], "a name can't stand together with -A or -l"),
        (["describe", "pod/a", "-l", "b=c"], "a name can't stand together with -A or -l"),
        (["describe", "events"], 'unknown kind "events"'),
        (["describe", "pods", "--show-events=maybe"], "ignored explicit argument 'maybe'"),
        (["logs"], "name a pod, or pick several with -l SELECTOR"),
        (["logs", "p", "-l", "app=web"], "name a pod, or pick several with -l SELECTOR"),
        (["logs", "p", "-c", "a", "--all-containers"], "together with --all-containers"),
        (["logs", "p", "--since-time", "noon"], "'noon' is not a time"),
        (["logs", "p", "--since-time", "2026-01-01T00:00:00Z", "--since", "5s"], "only one of"),
        (["logs", "p", "--tail", "x"], "invalid int value"),
        (
            ["get", "pods", "-o", "toml={{.x}}"],
            'suitable for the output format "toml={{.x}}", allowed formats are: '
            "wide,json,yaml,name,go-template,go-template-file,template,templatefile,"
            "jsonpath,jsonpath-as-json,jsonpath-file,custom-columns,custom-columns-file",
        ),
        (
            ["wait", "pod/a", "-o", "wide"],
            'suitable for the output format "wide", allowed formats are: json,yaml',
        ),
        (["get", "pods", "-o", "jsonpath"], "jsonpath: template format specified but no template given"),
        (["get", "pods", "-o", "go-template"], "template format specified but no template given"),
        (["get", "pods", "-o", "go-template="], "template format specified but no template given"),
        (["get", "pods", "-o", "go-template={{.x"], "template: output:1: unclosed action"),
        (["get", "pods", "--template", "{{end}}"], "template: output:1: unexpected {{end}}"),
        (["get", "pods", "-o=custom-columns="], "template format specified but no template given"),
        (["logs", "p", "c", "-c", "d"], "only one of -c or an inline [CONTAINER] arg is allowed"),
        (["debug", "web"], "you must specify --image when not using --copy-to."),
        (["debug", "node/n1", "--image=i"], "the node is this machine"),
        (["logs", "p", "--since", "5"], "'5' is not a duration"),
        (["exec", "p"], "you must specify at least one command"),
        (["image"], "the following arguments are required: VERB"),
        (["image", "pull"], "the following arguments are required: REFERENCE"),
        (["daemon", "--listen", "tcp://x"], "is not a unix socket"),
        (["daemon", "--unenforced-limits", "x"], "invalid choice"),
        (["kubelet"], "--container-runtime-endpoint is required"),
        (["run", "-it", "nginx", "--image=nginx", "--rm"], "run is for manifests"),
        (["run"], "the following arguments are required: FILE"),
        (["--listen", "http://x", "version"], "is not a unix socket"),
    ],
)
def test_wrong_usage_is_exit_code_2(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    output = capsys.readouterr()
    assert expected in output.err and "Traceback" not in output.err
    assert output.err.startswith("error: ")


@pytest.mark.parametrize(
    "words",
    [
        ["get", "pods"],
        ["describe", "pod", "x"],
        ["logs", "x"],
        ["exec", "x", "--", "ls"],
        ["image", "ls"],
        ["version"],
    ],
)
def test_no_daemon_is_said_in_one_line(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--run", str(tmp_path), *words]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"error: no minikubelet daemon answers on {tmp_path}/")
    assert "sudo minikubelet daemon" in lines[0]


def test_sockets_come_from_flags_then_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    def parsed(*words: str) -> argparse.Namespace:
        return get.parser().parse_args(["pods", *words])

    assert options.kubelet_socket(parsed()) == "/run/minikubelet/kubelet.sock"
    assert options.cri_endpoint(parsed()) == "unix:///run/minikubelet/minikubelet.sock"
    monkeypatch.setenv("MINIKUBELET_RUN", "/one")
    assert options.cri_endpoint(parsed()) == "unix:///one/minikubelet.sock"
    assert options.cri_endpoint(parsed("--run", "/two")) == "unix:///two/minikubelet.sock"
    monkeypatch.setenv("CONTAINER_RUNTIME_ENDPOINT", "unix:///three.sock")
    assert options.cri_endpoint(parsed("--run", "/two")) == "unix:///three.sock"
    assert options.cri_endpoint(parsed("--listen", "/four.sock")) == "unix:///four.sock"
    assert (
        options.cri_endpoint(image.parser().parse_args(["--run", "/x", "--listen", "/y", "ls"]))
        == "unix:///y"
    )


def test_a_socket_path_too_long_for_the_kernel_is_said() -> None:
    with pytest.raises(CommandError, match="longer than a unix socket's path may be"):
        options.unix_url("unix:///" + "x" * 108, "--listen")


@pytest.mark.parametrize(
    ("words", "command", "stdin", "tty"),
    [
        (["web", "--", "ls", "-la"], ["ls", "-la"], False, False),
        (["-it", "web", "--", "sh"], ["sh"], True, True),
        (["-i", "web", "-c", "server", "--", "cat", "--", "-c"], ["cat", "--", "-c"], True, False),
        (["web", "ls", "/"], ["ls", "/"], False, False),
    ],
)
def test_exec_words(words: list[str], command: list[str], stdin: bool, tty: bool) -> None:
    parsed = exec.parser().parse_args(words)
    assert (parsed.pod, parsed.command, parsed.stdin, parsed.tty) == ("web", command, stdin, tty)


def test_exit_codes_of_commands() -> None:
    assert exit_code({"status": "Success"}) == 0
    causes = [{"reason": "Other", "message": "x"}, {"reason": "ExitCode", "message": "7"}]
    assert exit_code({"status": "Failure", "details": {"causes": causes}}) == 7
    with pytest.raises(CommandError, match="no such file"):
        exit_code({"status": "Failure", "reason": "InternalError", "message": "no such file"})


@pytest.mark.parametrize(
    ("word", "value"),
    [("5s", 5), ("2m", 120), ("1h30m", 5400), ("1.5h", 5400), ("250ms", 0.25), ("1m5s", 65)],
)
def test_durations(word: str, value: float) -> None:
    assert options.seconds(word) == value


@pytest.mark.parametrize("word", ["", "5", "s", "-5s", "5 s", "5d", "1s1m"])
def test_bad_durations(word: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        options.seconds(word)


LABELS = {"app": "web", "tier": "front", "example.com/x": "", "rank": "7"}


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        ("", True),
        ("app=web", True),
        ("app==web", True),
        ("app=db", False),
        ("app!=db,tier=front", True),
        ("app!=web", False),
        ("other!=x", True),
        ("tier", True),
        ("!tier", False),
        ("!other", True),
        ("app in (db, web),tier", True),
        ("app notin (web)", False),
        ("other notin (web)", True),
        ("example.com/x=", True),
        ("rank>6,rank<8", True),
        ("rank > 7", False),
        ("rank<-1", False),
        ("app>0", False),
        ("other<1", False),
    ],
)
def test_selectors(selector: str, matches: bool) -> None:
    assert selectors.parse(selector)(LABELS) is matches


@pytest.mark.parametrize("selector", ["=x", "a=b=c", "a in", "a in (b", ",", "a>x", "a=b,"])
def test_bad_selectors(selector: str) -> None:
    with pytest.raises(CommandError, match="unable to parse label selector"):
        selectors.parse(selector)


def test_the_default_container_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    containers = [{"name": "a"}, {"name": "b"}]
    pod: dict[str, Any] = {
        "metadata": {"name": "p"},
        "spec": {"containers": containers, "initContainers": [{"name": "i"}]},
    }
    assert logs.choose_container(pod, None) == "a"
    assert capsys.readouterr().err == 'Defaulted container "a" out of: a, b, i\n'
    assert logs.choose_container(pod, "i") == "i"
    pod["metadata"]["annotations"] = {"kubectl.kubernetes.io/default-container": "b"}
    assert logs.choose_container(pod, None) == "b"
    with pytest.raises(CommandError, match=r"container nope is not valid for pod p \(it has: a, b, i\)"):
        logs.choose_container(pod, "nope")


# --- the daemon's settings ---------------------------------------------------------------------------------


def configured(*words: str) -> DaemonConfig:
    return daemon.configure(daemon.parser().parse_args(list(words)))


def test_defaults_without_a_file() -> None:
    assert configured() == DaemonConfig()


def test_run_moves_the_sockets(tmp_path: Path) -> None:
    config = configured("--run", str(tmp_path), "--no-kubelet", "--certs-dir", "/a", "--certs-dir", "/b")
    assert config.socket_path == f"{tmp_path}/minikubelet.sock"
    assert config.kubelet_socket == f"{tmp_path}/kubelet.sock"
    assert (config.kubelet, config.certs_dirs) == (False, ["/a", "/b"])
    assert configured("--run", "/r", "--listen", "unix:///l.sock").listen == "unix:///l.sock"


def test_file_then_flags(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        "root: /srv/one\nrun: /run/one\ncertsDirs: [/c]\nunenforcedLimits: allow\n"
        "network:\n  subnet: 10.1.0.0/24\n  mtu: 1400\n"
    )
    config = configured("--config", str(file), "--root", "/srv/two")
    assert (config.root, config.run, config.listen) == (
        "/srv/two",
        "/run/one",
        "unix:///run/one/minikubelet.sock",
    )
    assert (config.certs_dirs, config.unenforced_limits) == (["/c"], "allow")
    assert (config.network.subnet, config.network.mtu, config.network.pool) == (
        "10.1.0.0/24",
        1400,
        "10.85.0.0/16",
    )


def test_ipv6(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("network: {ipv6: off}")  # false in YAML 1.1
    assert configured("--config", str(file)).network.ipv6 == "off"
    assert configured("--config", str(file), "--ipv6", "auto").network.ipv6 == "auto"
    with pytest.raises(NodeError, match=r"network\.ipv6"):
        configured("--ipv6", "fd00::/120")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rot: /x", "rot: unknown key (did you mean root?)"),
        ("network: {bridgee: x}", "network.bridgee: unknown key (did you mean bridge?)"),
        ("zzz: 1", "zzz: unknown key (known here: root, run, "),
        ("root: 5", "root: must be a string, not 5"),
        ("network: {mtu: '1500'}", "network.mtu: must be a whole number, not '1500'"),
        ("network: {mtu: true}", "network.mtu: must be a whole number, not True"),
        ("kubelet: 'no'", "kubelet: must be true or false, not 'no'"),
        ("certsDirs: /x", "certsDirs: must be a list of strings"),
        ("certsDirs: [1]", "certsDirs: must be a list of strings"),
        ("network: 1", "network must be a mapping"),
        ("- a", "the document must be a mapping"),
        ("root: [", "not valid YAML"),
        ("a: &x 1\nb: *x", "aliases"),
        ("root: /a\nroot: /b", "key 'root' appears twice"),
        ("1: x", "key 1 is not a string"),
        ("root: !!python/object:os.system x", "not valid YAML"),
    ],
)
def test_config_errors_name_file_and_key(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(NodeError) as caught:
        configured("--config", str(file))
    assert str(caught.value).startswith(str(file))
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("registriesConf: r.conf", "registriesConf: 'r.conf' is not an absolute path"),
        ("registryAuthFile: auth.json", "registryAuthFile: 'auth.json' is not an absolute path"),
        ("signaturePolicy: policy.json", "signaturePolicy: 'policy.json' is not an absolute path"),
        ("root: relative", "root: 'relative' is not an absolute path"),
        ("unenforcedLimits: maybe", "unenforcedLimits: 'maybe' is neither refuse nor allow"),
        ("logLevel: loud", "logLevel: 'loud' is not one of"),
        ("listen: tcp://x", "is not a unix socket"),
        (
            "network: {ipv6: 10.0.0.0/8}",
            "network.ipv6: '10.0.0.0/8' is neither off, auto nor an IPv6 network",
        ),
        ("network: {ipv6: on}", "network.ipv6: must be a string, not True"),
    ],
)
def test_config_values(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(NodeError) as caught:
        configured("--config", str(file))
    assert expected in str(caught.value)


def test_a_missing_config_file_that_was_asked_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["daemon", "--config", str(tmp_path / "nope.yaml")]) == 1
    assert "nope.yaml" in capsys.readouterr().err


def test_kubelet_words() -> None:
    parsed = kubelet.parser().parse_args(
        ["--container-runtime-endpoint", "unix:///c.sock", "--manifests", "/m"]
    )
    config, warnings = kubelet.configure(parsed)
    assert (config.container_runtime_endpoint, config.manifests, warnings) == ("unix:///c.sock", "/m", [])
