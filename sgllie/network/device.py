"""Where a network is best run."""

HEAVY = 1000
"""Multiplications for each pixel from which on a core spends more than twice as long on the network as on the codecs.

Zero-DCE at full size was measured to take 1.9 s for a megapixel of one core, some 40 million multiplications for a
millisecond; a JPEG of a megapixel is decoded and encoded in 10 ms.
"""


def pays_on_gpu(parameters: int, scale_factor: int) -> bool:
    """Tell whether a network is so heavy that a GPU pays: else the cores that feed it do the work in passing.

    Args:
        parameters: of the network, each of which is a multiplication for each of its samples.
        scale_factor: there is a sample for so many pixels squared.
    """
    return parameters >= HEAVY * scale_factor**2
