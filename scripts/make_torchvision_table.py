"""Write `torchvision.json`: torchvision's classifiers, so that a name can be checked without importing it or torch.

For each classifier it has the names of its weights with the file that each is fetched as, the default weights first.
Nothing is downloaded.

    python scripts/make_torchvision_table.py edgedistill/models/torchvision.json
"""

import json
import sys
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlparse


def describe(name: str) -> dict[str, str]:
    """Return {weights: file} of one classifier."""
    from torchvision import models

    entries: Any = models.get_model_weights(name)
    ordered = sorted(entries, key=lambda each: each != entries.DEFAULT)
    return {each.name: PurePosixPath(urlparse(each.url).path).name for each in ordered}


def make_table() -> dict[str, Any]:
    """Return the whole table."""
    import torchvision
    from torchvision import models

    found = {name: describe(name) for name in models.list_models(module=models)}
    return {"torchvision": torchvision.__version__.partition("+")[0], "models": found}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(make_table(), indent=2) + "\n", encoding="utf-8")
