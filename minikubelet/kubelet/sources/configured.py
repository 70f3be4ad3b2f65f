"""The sources that a kubelet's settings name."""

from __future__ import annotations

from minikubelet.kubelet.config import KubeletConfig
from minikubelet.kubelet.object_store import ObjectStore
from minikubelet.kubelet.sources import PodSource
from minikubelet.kubelet.sources.folder import FolderSource
from minikubelet.kubelet.sources.merged import MergedSource
from minikubelet.kubelet.sources.reading import Report
from minikubelet.kubelet.sources.url import UrlSource


def make_source(config: KubeletConfig, report: Report, objects: ObjectStore) -> PodSource:
    """The folder (or file), and the URL if there is one. Raises NodeError, OSError."""
    folder = FolderSource(
        config.manifests, config.node_name, report, objects, period=config.file_check_frequency
    )
    if not config.static_pod_url:
        return folder
    url = UrlSource(
        config.static_pod_url,
        config.static_pod_url_header,
        config.http_check_frequency,
        config.node_name,
        report,
        objects,
    )
    return MergedSource([folder, url], report)
