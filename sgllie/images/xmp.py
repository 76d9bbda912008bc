"""The few properties inside an XMP packet that must change when the file around it does.

Properties are cut out or patched where they stand; everything else in the packet keeps its bytes. A damaged packet is
carried as it is; it never fails an image. Sources: XMP specification part 1 (serialisation: a property is an attribute
or an element); Motion Photo format 1.0, Ultra HDR image format 1.1 and Dynamic Depth 1.0 (what points to data behind
the picture).
"""

import re
from xml.parsers import expat

Properties = dict[re.Pattern[str], re.Pattern[str]]
"""Names of properties, by their namespaces."""


def _properties(*pairs: tuple[str, str]) -> Properties:
    return {re.compile(namespace): re.compile(names) for namespace, names in pairs}


_LOST = _properties(
    # Each maker of telephones has a namespace of this shape, and calls the video and what lies beside it so.
    (
        r"http://ns\.\w+\.com/photos/1\.0/camera/",
        r"(MotionPhoto|MicroVideo|OLivePhoto)\w*|VideoLength|VideoOffset|XMPMeta",
    ),
    (r"http://ns\.google\.com/photos/(dd/)?1\.0/container/", r"Directory"),
    (r"http://ns\.google\.com/photos/dd/1\.0/device/", r"\w+"),
    (r"http://ns\.adobe\.com/hdr-gain-map/1\.0/", r"\w+"),
    (r"http://ns\.apple\.com/HDRGainMap/1\.0/", r"\w+"),
)
"""What describes videos, gain maps and depth maps, which are not carried."""
_POINTER = b"HasExtendedXMP"
_EXTENSION = _properties(
    (r"http://ns\.adobe\.com/xmp/note/", _POINTER.decode()),
    (r"http://ns\.google\.com/photos/1\.0/(depthmap|image|audio)/", r"\w+"),
)
"""The pointer to the extension of a packet, and what describes the depth map, picture and sound that only fit there."""
_ATTRIBUTE = rb"""\s+([^\s=<>]+)\s*=\s*(?:"[^"]*"|'[^']*')"""
_START_TAG = re.compile(rb"<[^\s/>]+(?:" + _ATTRIBUTE + rb")*\s*/?>")


def refreshed(packet: bytes, *, upright: bool) -> bytes:
    """Return the packet as it must accompany changed pixels.

    What points to a video, gain map or depth map behind the picture goes, since that is not carried. With `upright`
    (the pixels have been turned) the copy of the Orientation tag becomes 1.
    """
    packet = _without(packet, _LOST)
    return turned_upright(packet) if upright else packet


def standalone(packet: bytes) -> bytes:
    """Return the packet of a JPEG without what points to its extension, which no other format has a place for."""
    return _without(packet, _EXTENSION) if _POINTER in packet else packet


def turned_upright(packet: bytes) -> bytes:
    """Return the packet, or a part of one, with its copy of the Orientation tag, if any, set to 1."""
    return re.sub(rb"""(tiff:Orientation(?:\s*=\s*["']|>\s*))[2-8]""", rb"\g<1>1", packet)


def _without(packet: bytes, lost: Properties) -> bytes:
    """Return the packet without these properties."""
    text = packet.decode("latin-1")
    if not any(namespace.search(text) for namespace in lost):
        return packet
    try:
        return _Cut(packet, lost).rest()
    except (expat.ExpatError, ValueError):
        return packet


class _Cut:
    """What is left of a packet without some properties, each of which is an attribute or an element."""

    def __init__(self, packet: bytes, lost: Properties) -> None:
        self.packet = packet
        self._lost = lost
        self._kept = bytearray()
        self._position = 0  # behind what is kept or left out by now
        self._depth = 0  # within an element to be left out
        self._start = 0
        self._is_empty = False
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.namespace_prefixes = True
        self._parser.StartElementHandler = self._on_start
        self._parser.EndElementHandler = self._on_end
        self._parser.StartDoctypeDeclHandler = self._on_doctype

    def rest(self) -> bytes:
        """Walk the packet.

        Raises:
            ExpatError: it is not well-formed.
            ValueError: it has a document type, which no packet has.
        """
        self._parser.Parse(self.packet.rstrip(b"\0"), True)
        return bytes(self._kept + self.packet[self._position :])

    def _leave_out(self, start: int, end: int) -> None:
        """Keep the packet up to the start; calls come in the order of the packet."""
        self._kept += self.packet[self._position : start]
        self._position = end

    def _on_doctype(self, *_: object) -> None:
        raise ValueError("a document type may define anything")

    def _on_start(self, name: str, attributes: dict[str, str]) -> None:
        start = self._parser.CurrentByteIndex
        if self._depth:
            self._depth += 1
        elif self._is_lost(name):
            self._depth, self._start = 1, start
            self._is_empty = self._tag(start).endswith(b"/>")
        else:
            lost = {_qualified(attribute) for attribute in attributes if self._is_lost(attribute)}
            for attribute in re.finditer(_ATTRIBUTE, self._tag(start)) if lost else ():
                if attribute[1] in lost:
                    self._leave_out(start + attribute.start(), start + attribute.end())

    def _on_end(self, _: str) -> None:
        if self._depth == 1:
            end = self._parser.CurrentByteIndex
            # Behind an empty element expat has passed its only tag.
            self._leave_out(self._start, end if self._is_empty else self.packet.index(b">", end) + 1)
        self._depth = max(self._depth - 1, 0)

    def _is_lost(self, name: str) -> bool:
        """Tell whether a name, as expat gives it (namespace, local name, prefix), is of such a property."""
        namespace, _, rest = name.partition(" ")
        local = rest.split(" ")[0]
        return any(space.fullmatch(namespace) and names.fullmatch(local) for space, names in self._lost.items())

    def _tag(self, start: int) -> bytes:
        """Return the start tag at a place."""
        tag = _START_TAG.match(self.packet, start)
        if not tag:
            raise ValueError("the packet is in another encoding")
        return tag[0]


def _qualified(name: str) -> bytes:
    """Return a name as it stands in the packet, from what expat makes of it."""
    _, local, prefix = name.split(" ")
    return f"{prefix}:{local}".encode()
