"""The sizing table's arithmetic, done again."""

import re
from typing import Final

import yaml

from tests.helm.chart import CHART, ROOT

PAGE: Final = (ROOT / "docs/deploy.md").read_text()
MODELS: Final = {
    name: (float(parameters) * 1e9, int(layers), int(width), int(bytes_a_token), float(weights))
    for name, parameters, weights, layers, width, bytes_a_token in re.findall(
        r"^\| (\w+B) \| ([\d.]+) · 10⁹ \| ([\d.]+) GB \| (\d+) \| (\d+) \| (\d+) \|$", PAGE, re.M
    )
}
ROWS: Final = re.findall(
    r"^\| (\w+B) \| (\d) × (\d+) GB.*? \| (\d).*? \| (\d+) \| (\d+) \|", PAGE, re.M
)


def test_weights_and_bytes_a_token_follow_from_the_shape() -> None:
    assert set(MODELS) == {"7B", "13B", "70B"}
    for parameters, layers, width, bytes_a_token, weights in MODELS.values():
        assert weights == round(2 * parameters / 1e9, 1)
        assert bytes_a_token == 2 * layers * width * 2


def test_tokens_in_the_cache_are_what_is_left_of_the_cards() -> None:
    assert len(ROWS) == 7
    for name, cards, size, _, tokens, streams in ROWS:
        *_, bytes_a_token, weights = MODELS[name]
        left = int(cards) * (0.9 * int(size) - 2) - weights
        assert int(tokens) == int(left * 1e9 / bytes_a_token)
        assert int(streams) == int(tokens) // 1000


def test_presets_split_as_the_table_says() -> None:
    for name, split in (("7b", 1), ("13b", 2), ("70b", 4)):
        preset = yaml.safe_load((CHART / f"files/presets/{name}.yaml").read_text())
        assert preset["tensorParallelSize"] == split
        rows = [row for row in ROWS if row[0].lower() == name]
        assert str(split) in {row[3] for row in rows}
