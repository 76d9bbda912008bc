"""Sessions of the page without a browser, and files that are dropped into them."""

from clips import static, write_clip
from sgllie.demo.session import Session
from sgllie.demo.settings import DemoSettings
from sgllie.demo.stills import Stills


def session_of(tmp_path, **options):
    """A session of a page that has no other."""
    settings = DemoSettings(**options)
    return Session(tmp_path / "session", settings, Stills(settings))


def dropped(folder, name, data):
    """A file as the browser's upload leaves it: in a folder of its own."""
    path = folder / f"upload-{name}" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def taken(session, tmp_path, name, data):
    """A file that the session has taken over."""
    assert session.take([dropped(tmp_path, name, data)]) == []
    return session.items[-1]


def clip_bytes(tmp_path, count=30, **options):
    """A clip without sound."""
    path = tmp_path / "made.mp4"
    write_clip(path, static(count), sound=False, **options)
    return path.read_bytes()
