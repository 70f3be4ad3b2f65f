"""Objects cut out of manifest files, put into the node's folder, and taken out again."""

from __future__ import annotations

from pathlib import Path

import pytest

from minikubelet.cli.manifest_files import Folder, Key, gather, read_pieces
from minikubelet.cli.options import CommandError
from minikubelet.kubelet.manifests.errors import ManifestError

TWO = b"""\
# the first
apiVersion: v1
kind: Pod
metadata: {name: a}   # by name
---
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: b
  namespace: other
data: {key: "yes"}
"""


def pod(name: str, **spec: object) -> bytes:
    return f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {spec}\n".encode()


def put(folder: Path, text: bytes, namespace: str = "") -> list[str]:
    place = Folder(str(folder))
    return [place.put(piece) for piece in read_pieces(text, "given", namespace)]


def test_documents_keep_their_text_and_comments() -> None:
    first, second = read_pieces(TWO, "f")
    assert (first.key, second.key) == (Key("Pod", "default", "a"), Key("ConfigMap", "other", "b"))
    assert first.text.startswith("# the first\napiVersion") and first.text.endswith("# by name\n")
    assert second.text.startswith("apiVersion") and second.data["data"] == {"key": "yes"}


def test_lists_are_unfolded() -> None:
    text = b'{"kind": "List", "apiVersion": "v1", "items": [{"kind": "Pod", "metadata": {"name": "x"}}]}'
    (piece,) = read_pieces(text, "f", "ns")
    assert piece.key == Key("Pod", "ns", "x")
    assert read_pieces(piece.text.encode(), "f")[0].data == piece.data


@pytest.mark.parametrize("text", [b"[]", b"{}", b"{", b"kind: Pod", b"a: [", b'{"kind": "List", "items": 3}'])
def test_what_is_no_object_is_an_error_naming_the_file(text: bytes) -> None:
    with pytest.raises(ManifestError) as caught:
        read_pieces(text, "the-file")
    assert caught.value.file == "the-file"


def test_a_namespace_that_contradicts(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match='"other" does not match the namespace "here"'):
        read_pieces(TWO, "f", "here")


def test_created_unchanged_configured(tmp_path: Path) -> None:
    assert put(tmp_path, TWO) == ["created", "created"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "configmap.other.b.yaml",
        "pod.default.a.yaml",
    ]
    assert (tmp_path / "pod.default.a.yaml").read_text().startswith("# the first")
    assert put(tmp_path, TWO) == ["unchanged", "unchanged"]
    assert put(tmp_path, TWO.replace(b"yes", b"no")) == ["unchanged", "configured"]
    assert put(tmp_path, pod("a"), "new") == ["created"]
    assert Key("Pod", "new", "a") in Folder(str(tmp_path)).every()


def test_an_object_is_replaced_where_it_is(tmp_path: Path) -> None:
    """Somebody put it there by hand: the file keeps its name, its mode and its neighbours."""
    place = tmp_path / "mine.yml"
    place.write_bytes(TWO)
    place.chmod(0o640)
    assert put(tmp_path, pod("a", priority=3)) == ["configured"]
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yml"]
    assert place.stat().st_mode & 0o777 == 0o640
    first, second = read_pieces(place.read_bytes(), "f")
    assert first.data["spec"] == {"priority": 3}
    assert second.data["data"] == {"key": "yes"}


def test_removing_cuts_out_and_the_last_one_takes_the_file(tmp_path: Path) -> None:
    place = tmp_path / "mine.yml"
    place.write_bytes(TWO)
    folder = Folder(str(tmp_path))
    folder.remove([Key("Pod", "default", "a"), Key("Pod", "default", "not-there")])
    assert [piece.key.name for piece in read_pieces(place.read_bytes(), "f")] == ["b"]
    folder.remove([Key("ConfigMap", "other", "b")])
    assert not place.exists()


def test_items_of_a_list_are_not_torn_apart(tmp_path: Path) -> None:
    place = tmp_path / "list.yaml"
    place.write_text(
        "kind: List\napiVersion: v1\nitems:\n"
        "- {kind: Pod, apiVersion: v1, metadata: {name: a}}\n"
        "- {kind: Pod, apiVersion: v1, metadata: {name: b}}\n"
    )
    before = place.read_bytes()
    with pytest.raises(CommandError, match=r"pod/a is in a list with others in .*list\.yaml: edit that file"):
        put(tmp_path, pod("a"))
    assert place.read_bytes() == before


def test_a_file_somebody_is_writing_hides_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("a: [")
    (tmp_path / ".hidden.yaml").write_bytes(pod("h"))
    assert put(tmp_path, pod("a")) == ["created"]
    assert [key.name for key in Folder(str(tmp_path)).every()] == ["a"]


def test_what_f_names(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.json", "c.txt"):
        (tmp_path / name).touch()
    a, b, c = (str(tmp_path / name) for name in ("a.json", "b.yaml", "c.txt"))
    assert gather([str(tmp_path), "-", c]) == [a, b, "-", c]
    with pytest.raises(CommandError, match=r"holds no \.yaml"):
        (tmp_path / "empty").mkdir()
        gather([str(tmp_path / "empty")])
