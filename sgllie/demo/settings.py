"""The settings of `sgllie demo`."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from sgllie.errors import UsageError
from sgllie.images import MAX_PIXELS
from sgllie.settings import check_limits, setting


@dataclass(frozen=True)
class DemoSettings:
    """Try it on a few photographs or a short clip: a page on this machine, for the browser.

    It needs neither Ray nor a network. Nothing is kept: what was dropped on the page goes when the page is closed.
    """

    host: str = setting("127.0.0.1", changes_output=False)
    """Address to listen on. Another than this machine's own needs --auth-file."""
    port: int = setting(7860, least=0, most=65535, changes_output=False)
    """Port to listen on; 0 takes a free one."""
    auth_file: Path | None = setting(None, changes_output=False)
    """File with a line NAME:PASSWORD for each person who may see the page."""
    weights: tuple[str, ...] = setting((), changes_output=False)
    """Weights to choose from besides the bundled ones: .safetensors, .pth or .onnx files, or folders of trainings."""
    max_pixels: int = setting(MAX_PIXELS, least=1)
    """Larger photographs and clips are refused."""
    max_seconds: float = setting(30.0, least=1, changes_output=False)
    """Longer clips are refused."""
    max_files: int = setting(50, least=1, changes_output=False)
    """Photographs and clips that one person may have on the page at the same time."""
    max_megabytes: int = setting(200, least=1, changes_output=False)
    """Larger files are refused."""

    def __post_init__(self) -> None:
        check_limits(self)
        if self.auth_file is None and not is_loopback(self.host):
            raise UsageError(
                f"--host {self.host} opens the page to other machines, where whoever finds it could use this one's "
                "processors and memory; it needs --auth-file with a line NAME:PASSWORD for each person"
            )

    def passwords(self) -> list[tuple[str, str]]:
        """Return the name and password of each person; none where everybody on this machine may see the page.

        Raises:
            UsageError: the file cannot be read, or has a line of another kind.
        """
        if self.auth_file is None:
            return []
        try:
            lines = self.auth_file.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--auth-file {self.auth_file} cannot be read: {error}") from error
        pairs = [line.partition(":") for line in lines if line.strip()]
        for number, (name, _, password) in enumerate(pairs, 1):
            if not name.strip() or not password:
                raise UsageError(f"--auth-file {self.auth_file}: entry {number} is not of the kind NAME:PASSWORD")
        if not pairs:
            raise UsageError(f"--auth-file {self.auth_file} is empty; it needs a line NAME:PASSWORD for each person")
        return [(name, password) for name, _, password in pairs]


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
