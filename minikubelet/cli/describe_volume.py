"""The volumes of a pod's description."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

_WORDS = {
    "hostPath": "HostPath (bare host directory volume)",
    "emptyDir": "EmptyDir (a temporary directory that shares a pod's lifetime)",
    "configMap": "ConfigMap (a volume populated by a ConfigMap)",
    "secret": "Secret (a volume populated by a Secret)",
    "downwardAPI": "DownwardAPI (a volume populated by information about the pod)",
    "projected": "Projected (a volume that contains injected data from multiple sources)",
    "persistentVolumeClaim": (
        "PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same namespace)"
    ),
    "image": "Image (a container image or OCI artifact)",
}


def volumes(declared: list[Json]) -> list[str]:
    """Lines with tabs, ready for :func:`text.tabulate`."""
    if not declared:
        return ["Volumes:\t<none>"]
    lines = ["Volumes:"]
    for volume in declared:
        lines.append(f"  {volume['name']}:")
        kind = next((name for name in volume if name != "name"), "")
        lines.append(f"    Type:\t{_WORDS.get(kind, kind or '<unknown>')}")
        source = volume.get(kind) or {}
        lines += [f"    {name}:\t{value}" for name, value in _details(kind, source)]
        if kind == "downwardAPI":
            lines += [
                "    Items:",
                *(f"      {_told(item)} -> {item['path']}" for item in source.get("items", [])),
            ]
    return lines


def _told(item: Json) -> str:
    """What a file of a downwardAPI volume tells."""
    return str(
        (item.get("fieldRef") or {}).get("fieldPath") or (item.get("resourceFieldRef") or {}).get("resource")
    )


def _details(kind: str, source: Json) -> list[tuple[str, str]]:
    if kind == "hostPath":
        return [("Path", source.get("path", "")), ("HostPathType", source.get("type", ""))]
    if kind == "emptyDir":
        limit = str(source.get("sizeLimit") or 0)
        return [("Medium", source.get("medium", "")), ("SizeLimit", "<unset>" if limit == "0" else limit)]
    optional = ("Optional", str(bool(source.get("optional"))).lower())
    if kind == "configMap":
        return [("Name", source.get("name", "")), optional]
    if kind == "secret":
        return [("SecretName", source.get("secretName", "")), optional]
    if kind == "persistentVolumeClaim":
        return [
            ("ClaimName", source.get("claimName", "")),
            ("ReadOnly", str(bool(source.get("readOnly"))).lower()),
        ]
    if kind == "image":
        return [("Reference", source.get("reference", "")), ("PullPolicy", source.get("pullPolicy", ""))]
    if kind == "projected":
        return [detail for each in source.get("sources", []) for detail in _projected(each)]
    return []


def _projected(source: Json) -> list[tuple[str, str]]:
    for kind, name in (("secret", "SecretName"), ("configMap", "ConfigMapName")):
        if ref := source.get(kind):
            return [(name, ref.get("name", "")), ("Optional", str(bool(ref.get("optional"))).lower())]
    if token := source.get("serviceAccountToken"):
        return [("TokenExpirationSeconds", str(token.get("expirationSeconds", 3600)))]
    return [("DownwardAPI", "true")] if source.get("downwardAPI") else []
