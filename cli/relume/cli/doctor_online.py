"""The online half of `relume doctor`: ask a cluster, and print what it lacks."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relume.cluster.admission import Cluster

OK, WRONG = 0, 1


def show_cluster(
    context: str, kubeconfig: Path | None, files: Sequence[Path], output: str
) -> tuple[int, "Cluster"]:
    """Examine the cluster for what is in `files`; returns the exit code and its settings.

    Raises Unreachable where it does not answer, and InvalidInput for files that cannot be read.
    """
    from relume.cluster.apply.api import KubernetesApi
    from relume.cluster.doctor.online import examine_cluster, needs_of

    needs, classes = needs_of(files)
    report = examine_cluster(
        KubernetesApi.of_context(context, kubeconfig), needs=needs, broker_classes=classes
    )
    wrong = any(finding.severity == "error" for finding in report.findings)
    if output == "json":
        from relume.cli.doctor import finding_json, print_json

        print_json(
            {
                "context": context,
                "version": report.version,
                "findings": [finding_json(finding) for finding in report.findings],
            }
        )
    else:
        from relume.cli.doctor_words import show_findings
        from relume.cli.screen import Screen

        screen = Screen.stdout()
        screen.title(f"cluster {context}, Kubernetes {report.version}")
        show_findings(screen, report.findings)
        screen.line()
    return (WRONG if wrong else OK), report.settings
