"""Documents as text: the same documents make the same bytes."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from textwrap import wrap

import yaml

from relume.cluster.render.book import Setting
from relume.cluster.render.draft import Json

HEAD = "# Made by relume render: change the manifests that it was made from, and render again.\n"
_WIDTH = 96


class _Dumper(yaml.SafeDumper):
    """Writes long texts as blocks, and never an alias."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, data: str) -> yaml.ScalarNode:
    style = "|" if "\n" in data else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _text)


def yaml_text(documents: Iterable[dict[str, Json]], head: str = HEAD) -> str:
    """A YAML file with these documents, fields in their order."""
    made = yaml.dump_all(
        documents, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True
    )
    return head + str(made)


def settings_texts(settings: Sequence[Setting]) -> dict[str, str]:
    """The patches of config maps, by file, with the reason above each key."""
    texts = {}
    for (namespace, name), group in groupby(settings, lambda s: (s.namespace, s.config_map)):
        file = f"cluster/{'eventing-' if namespace == 'knative-eventing' else ''}{name}.yaml"
        texts[file] = _patch(namespace, name, list(group))
    return texts


def _patch(namespace: str, name: str, settings: Sequence[Setting]) -> str:
    command = f"kubectl patch configmap {name} -n {namespace} --type merge --patch-file {name}.yaml"
    lines = [
        HEAD.rstrip(),
        "# A patch for the cluster's own config map, for its administrator to apply:",
        f"#   {command}",
        "apiVersion: v1",
        "kind: ConfigMap",
        "metadata:",
        f"  name: {name}",
        f"  namespace: {namespace}",
        "data:",
    ]
    for setting in settings:
        lines += [f"  # {line}" for line in wrap(setting.why + ".", _WIDTH - 4)]
        lines.append(f'  {setting.key}: "{setting.value}"')
    return "\n".join(lines) + "\n"


def activator_text(seconds: int) -> str:
    """The patch of Knative's activator, whose pods must outlast the longest request."""
    return f"""{HEAD}\
# The activator holds requests for as long as they may take, and a stopping one needs that long to
# finish them. For the cluster's administrator to apply:
#   kubectl patch deployment activator -n knative-serving --patch-file activator.yaml
apiVersion: apps/v1
kind: Deployment
metadata:
  name: activator
  namespace: knative-serving
spec:
  template:
    spec:
      terminationGracePeriodSeconds: {seconds}
"""
