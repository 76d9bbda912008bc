"""Pictures in high dynamic range, which look like any other but for a number beside the pixels.

Sources: ITU-T H.273, table 3 (transfer characteristics); ICC.1:2022, 10.3 (cicpType); W3C, "Using the ITU BT.2100 PQ
EOTF with the PNG format" (the name of a profile that stood for PQ before PNG had a chunk for it).
"""

import struct

from sgllie.errors import ImageError

_TRANSFERS = {16: "PQ", 18: "HLG"}
_PROFILE_NAMES = {b"ITUR_2100_PQ_FULL": "PQ", b"ITUR_2100_HLG_FULL": "HLG"}
_TAGS_LIMIT = 1000


def check_transfer(transfer: int) -> None:
    """Refuse the transfer characteristics of PQ and HLG.

    Raises:
        ImageError: `hdr`.
    """
    _refuse(_TRANSFERS.get(transfer))


def check_profile_name(name: bytes) -> None:
    """Refuse the profiles of PNG whose name stands for PQ or HLG, whatever is in them.

    Raises:
        ImageError: `hdr`.
    """
    _refuse(_PROFILE_NAMES.get(name))


def check_profile(icc: bytes | None) -> None:
    """Refuse an ICC profile that says in its tag `cicp` that the values are PQ or HLG.

    Raises:
        ImageError: `hdr`.
    """
    if not icc or len(icc) < 132:
        return
    (count,) = struct.unpack_from(">I", icc, 128)
    for number in range(min(count, _TAGS_LIMIT, (len(icc) - 132) // 12)):
        signature, offset, size = struct.unpack_from(">4sII", icc, 132 + 12 * number)
        if signature == b"cicp" and size >= 12 and offset + 12 <= len(icc):
            # Type, four bytes reserved, primaries, transfer.
            check_transfer(icc[offset + 9])


def _refuse(name: str | None) -> None:
    if name:
        raise ImageError("hdr", f"it is HDR ({name}), and the network was made for standard dynamic range")
