"""How DVC puts outputs from its cache into the workspace: as files, since what reads ONNX models refuses links.

.dvc/config says so before the user's own and the system's settings, but .dvc/config.local comes before it.
"""

from collections.abc import Mapping

from press.core.errors import UserError

# Clones of blocks, or of bytes: DVC's own default.
PLAIN = ("reflink", "copy")


def configuration() -> Mapping:
    """Return DVC's configuration.

    :raises UserError: if it cannot be read
    """
    from dvc.config import Config, ConfigError

    try:
        return Config.from_cwd()
    except ConfigError as error:
        raise UserError(f"DVC's configuration cannot be read: {error}") from error


def check_links() -> None:
    """Refuse a cache whose files DVC links into the workspace.

    :raises UserError: with the setting, and what to do
    """
    types = configuration()["cache"].get("type") or PLAIN
    links = [each for each in types if each not in PLAIN]
    if links:
        raise UserError(
            f"cache.type in DVC's configuration has {' and '.join(links)}, but what reads ONNX models refuses "
            f"weights that are links: run `dvc config --local cache.type {','.join(PLAIN)}`, then "
            "`dvc checkout --relink`"
        )
