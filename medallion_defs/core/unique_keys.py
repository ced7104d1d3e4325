"""Reading YAML and JSON that people write, where a key that stands twice is an error: the last one would win in silence."""

import json
from collections import Counter
from collections.abc import Hashable
from typing import Any

import yaml


class UniqueKeyLoader(yaml.SafeLoader):
    """Loads YAML as `yaml.SafeLoader` does; raises yaml.MarkedYAMLError for a key that stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = Counter(self.construct_object(key, deep=True) for key, _ in node.value)
        for key, count in keys.items():
            if count > 1:
                mark = node.start_mark
                raise yaml.MarkedYAMLError(problem=f"the key '{key}' stands twice", problem_mark=mark)
        return super().construct_mapping(node, deep=deep)


def load_json(text: str) -> Any:
    """Parse JSON.

    Raises:
        ValueError: the text is not JSON, or an object has a key twice.
    """
    return json.loads(text, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for key, count in Counter(key for key, _ in pairs).items():
        if count > 1:
            raise ValueError(f"the key '{key}' stands twice in an object")
    return dict(pairs)
