"""What docs/sparsity.md shows is run as it stands."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "sparsity.md"


def test_the_page_runs():
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    scope: dict = {}
    exec(compile(block, str(PAGE), "exec"), scope)
    whole, *smaller = scope["sizes"]
    assert all(size < whole / 1.5 for size in smaller)
    assert scope["taught"].clustered
