"""Which version of the package this is."""

from importlib.metadata import PackageNotFoundError, version


def package_version() -> str:
    try:
        return version("safechat")
    except PackageNotFoundError:
        return "unknown"
